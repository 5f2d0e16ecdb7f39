// Damaged packages with right digests: each is refused with an error or opens as a sound one; none crashes or
// reads outside what it mapped (run under ASan for the latter).
#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include <nlohmann/json.hpp>

#include "runtime/base/sha256.h"
#include "runtime/package/golden.h"
#include "runtime/package/validate.h"
#include "tests/package/sample.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;

// Flips a bit, sets a byte, swaps, cuts off or doubles a piece.
std::string Damaged(std::string content, std::mt19937* random) {
  const auto below = [&](size_t n) { return n == 0 ? 0 : std::uniform_int_distribution<size_t>(0, n - 1)(*random); };
  for (size_t n = 1 + below(3); n > 0 && !content.empty(); --n) {
    const size_t at = below(content.size());
    switch (below(5)) {
      case 0: content[at] ^= static_cast<char>(1 << below(8)); break;
      case 1: content[at] = static_cast<char>(below(2) == 0 ? 0xff : 0x7f); break;
      case 2: std::swap(content[at], content[below(content.size())]); break;
      case 3: content.resize(at); break;
      case 4: content.insert(at, content.substr(below(content.size()), below(16))); break;
    }
  }
  return content;
}

TEST(PackageFuzz, DamagedProgramsAreRefusedOrSound) {
  flatbuffers::FlatBufferBuilder builder;
  const program::ProgramT sample = SampleProgram();
  program::FinishProgramBuffer(builder, program::Program::Pack(builder, &sample));
  const std::string bytes(reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize());
  std::mt19937 random(1);
  int sound = 0, unpacked = 0;
  const int kTrials = 20000;
  for (int i = 0; i < kTrials; ++i) {
    auto p = UnpackProgram(Damaged(bytes, &random), "here");
    if (!p.ok()) {
      ASSERT_EQ(p.error().code, Code::kBadInput);
      continue;
    }
    ++unpacked;
    const Status status = ValidateProgram(**p, "here");
    if (!status.ok()) ASSERT_EQ(status.error().code, Code::kBadInput);
    sound += status.ok();
  }
  // Names and numbers without consequence may change; the rest must not get through.
  EXPECT_GT(unpacked, sound) << "the validator was never needed: the fuzzer does not reach it";
  EXPECT_LT(sound, kTrials * 3 / 4);
}

// Each byte of each file in turn, by itself: at the digests' mercy.
TEST(PackageFuzz, EveryFlippedByteIsRefusedOrWithoutConsequence) {
  TempFolder folder;
  ASSERT_TRUE(WritePackage(SampleProgram(1), SampleContents(folder), folder / "p").ok());
  std::vector<std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "p"))
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  for (const std::string& file : files) {
    const std::string content = Slurp(file);
    const bool is_blob = file.find("/blobs/") != std::string::npos;
    for (size_t at = 0; at < content.size(); at += is_blob ? 37 : 1) {
      std::string flipped = content;
      flipped[at] ^= 1 << (at % 7);
      Spill(file, flipped);
      auto package = Package::Open(folder / "p");
      ASSERT_FALSE(is_blob && package.ok()) << file << " byte " << at;
      if (!package.ok()) ASSERT_EQ(package.error().code, Code::kBadInput) << package.error().Format();
    }
    Spill(file, content);
  }
  EXPECT_TRUE(Package::Open(folder / "p").ok());
}

// Manifest, config and index damaged, and the digests above them made right again.
TEST(PackageFuzz, DamagedJsonWithRightDigests) {
  TempFolder folder;
  ASSERT_TRUE(WritePackage(SampleProgram(1), SampleContents(folder), folder / "p").ok());
  const std::string index_path = folder / "p" + "/index.json", blobs = folder / "p" + "/blobs/sha256/";
  const auto index = nlohmann::json::parse(Slurp(index_path));
  const std::string manifest_text = Slurp(blobs + index["manifests"][0]["digest"].get<std::string>().substr(7));
  std::mt19937 random(2);
  int refused = 0;
  for (int i = 0; i < 400; ++i) {
    const std::string manifest = Damaged(manifest_text, &random);
    const std::string digest = Sha256Hex(manifest);
    Spill(blobs + digest, manifest);
    auto changed = index;
    changed["manifests"][0]["digest"] = "sha256:" + digest;
    changed["manifests"][0]["size"] = manifest.size();
    Spill(index_path, changed.dump());
    auto package = Package::Open(folder / "p");
    if (!package.ok()) ASSERT_EQ(package.error().code, Code::kBadInput) << package.error().Format();
    refused += !package.ok();
    fs::remove(blobs + digest);
    Spill(index_path, Damaged(index.dump(), &random));
    auto other = Package::Open(folder / "p");
    if (!other.ok()) ASSERT_EQ(other.error().code, Code::kBadInput) << other.error().Format();
  }
  EXPECT_GT(refused, 200);
}

TEST(PackageFuzz, DamagedSafetensors) {
  TempFolder folder;
  const std::vector<double> data(16, 1.5);
  ASSERT_TRUE(WriteSafetensors(folder / "good", {{"loss", program::DType::Float64, {}, data.data(), nullptr},
                                                 {"grad.w", program::DType::Float64, {4, 3}, data.data(), nullptr},
                                                 {"in.x", program::DType::Int64, {2}, data.data(), nullptr}},
                               {{"tied", "a,b,,c"}}).ok());
  const std::string good = Slurp(folder / "good");
  std::mt19937 random(3);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    Spill(folder / "bad", Damaged(good, &random));
    auto golden = GoldenFile::Open(folder / "bad");
    if (!golden.ok()) {
      ASSERT_EQ(golden.error().code, Code::kBadInput);
      ++refused;
      continue;
    }
    double sum = 0;  // every byte an entry names can be read
    for (const GoldenTensor& tensor : golden->gradients()) {
      int64_t numel = 1;
      for (const int64_t size : tensor.sizes) numel *= size;
      for (int64_t e = 0; e < numel; ++e) sum += reinterpret_cast<const unsigned char*>(tensor.data)[e];
    }
    ASSERT_GE(sum, 0);
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace autospc
