#include "runtime/package/oci.h"

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "runtime/base/sha256.h"
#include "tests/package/sample.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;

std::map<std::string, std::string> Tree(const std::string& root) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(root))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), root).string()] = Slurp(entry.path().string());
  return files;
}

class PackageTest : public testing::Test {
 protected:
  void Write(int ranks = 2, const std::string& name = "p") {
    const Status status = WritePackage(SampleProgram(ranks), SampleContents(folder), folder / name);
    ASSERT_TRUE(status.ok()) << status.error().Format();
  }
  std::string BlobOf(std::string_view type, const std::string& name = "p") {
    auto package = Package::Open(folder / name, {.verify_data = false});
    if (!package.ok()) return "";
    for (const Blob& blob : package->blobs())
      if (blob.type == type) return folder / name + "/blobs/sha256/" + blob.digest.substr(7);
    return "";
  }
  Error OpenError(const std::string& name = "p") {
    auto package = Package::Open(folder / name);
    return package.ok() ? Error{Code::kOk, "", "", ""} : package.error();
  }
  TempFolder folder;
};

TEST_F(PackageTest, WritesAndReadsBack) {
  Write();
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"data.bin", "p"}));
  auto package = Package::Open(folder / "p");
  ASSERT_TRUE(package.ok()) << package.error().Format();
  EXPECT_EQ(package->ranks(), 2);
  EXPECT_EQ(package->program().name, "sample");
  EXPECT_EQ(package->program().instructions[1]->op, "autosp.all_reduce");
  EXPECT_EQ(package->program().instructions[0]->args[1]->ints, (std::vector<int64_t>{2, -1}));
  EXPECT_EQ(package->blobs().size(), 4u);
  EXPECT_TRUE(package->has_weights());
  EXPECT_TRUE(package->MissingWeights().empty());
  EXPECT_EQ(package->digest(), Sha256Hex(Slurp(folder / "p" + "/index.json")));
  const StoredTensor w = package->Find("block.w");  // stored row-major from its transposed source
  ASSERT_EQ(w.bytes, 32);
  EXPECT_EQ(w.sizes, (std::vector<int64_t>{2, 4}));
  float values[8];
  std::memcpy(values, w.data, 32);
  EXPECT_EQ(std::vector<float>(values, values + 8), (std::vector<float>{1, 3, 5, 7, 2, 4, 6, 8}));
  const StoredTensor table = package->Find("block.table");  // float64 in its source, float32 in the program
  ASSERT_EQ(table.bytes, 16);
  std::memcpy(values, table.data, 16);
  EXPECT_EQ(std::vector<float>(values, values + 4), (std::vector<float>{0.5, 1.5, 2.5, 3.5}));
  EXPECT_EQ(package->Find("c0").bytes, 32);
  EXPECT_EQ(package->Find("ids").data, nullptr);
}

TEST_F(PackageTest, EveryBlobHasItsDigestForAName) {
  Write(3);
  std::set<std::string> named;
  for (const auto& [file, content] : Tree(folder / "p"))
    if (file.starts_with("blobs/")) {
      EXPECT_EQ(file, "blobs/sha256/" + Sha256Hex(content));
      named.insert(file.substr(13));
    }
  EXPECT_EQ(named.size(), 4u + 3u) << "3 manifests; config, program, weights and constants are shared";
  const auto index = nlohmann::json::parse(Slurp(folder / "p" + "/index.json"));
  ASSERT_EQ(index["manifests"].size(), 3u);
  for (const auto& manifest : index["manifests"]) {
    const std::string digest = manifest["digest"];
    const std::string content = Slurp(folder / "p" + "/blobs/sha256/" + digest.substr(7));
    EXPECT_EQ(manifest["size"], content.size());
    const auto parsed = nlohmann::json::parse(content);
    EXPECT_EQ(parsed["config"]["mediaType"], kConfigType);
    EXPECT_EQ(parsed["annotations"]["vnd.autospc.rank"], manifest["annotations"]["vnd.autospc.rank"]);
    for (const auto& layer : parsed["layers"]) EXPECT_TRUE(named.contains(layer["digest"].get<std::string>().substr(7)));
  }
  EXPECT_EQ(Slurp(folder / "p" + "/oci-layout"), R"({"imageLayoutVersion":"1.0.0"})");
}

TEST_F(PackageTest, EqualInputGivesEqualBytes) {
  Write(2, "a");
  const auto first = Tree(folder / "a");
  PackageContents contents = SampleContents(folder);
  std::swap(contents.weights[0], contents.weights[1]);
  ASSERT_TRUE(WritePackage(SampleProgram(), contents, folder / "b").ok());
  EXPECT_EQ(first, Tree(folder / "b"));
}

TEST_F(PackageTest, WithoutWeights) {
  PackageContents contents = SampleContents(folder);
  contents.weights.clear();
  ASSERT_TRUE(WritePackage(SampleProgram(), contents, folder / "p").ok());
  auto package = Package::Open(folder / "p");
  ASSERT_TRUE(package.ok()) << package.error().Format();
  EXPECT_FALSE(package->has_weights());
  EXPECT_EQ(package->MissingWeights(), (std::vector<std::string>{"block.w", "block.table"}));
}

TEST_F(PackageTest, ConstantsFromMemory) {
  PackageContents contents = SampleContents(folder);
  contents.constants.clear();
  const std::vector<float> c(8, 2.5f);
  contents.made_constants.push_back({"c0", program::DType::Float32, {8}, c.data(), nullptr});
  ASSERT_TRUE(WritePackage(SampleProgram(), contents, folder / "p").ok());
  auto package = Package::Open(folder / "p");
  ASSERT_TRUE(package.ok());
  EXPECT_EQ(std::memcmp(package->Find("c0").data, c.data(), 32), 0);
}

TEST_F(PackageTest, AnExistingOutputStays) {
  Write(2);
  const auto before = Tree(folder / "p");
  const Status again = WritePackage(SampleProgram(3), SampleContents(folder), folder / "p");
  ASSERT_FALSE(again.ok());
  EXPECT_EQ(again.error().code, Code::kUsage);
  EXPECT_NE(again.error().hint.find("--force"), std::string::npos);
  EXPECT_EQ(Tree(folder / "p"), before);
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"data.bin", "p"}));
}

TEST_F(PackageTest, ForceReplaces) {
  Write(2);
  ASSERT_TRUE(WritePackage(SampleProgram(3), SampleContents(folder), folder / "p/", {.force = true}).ok());
  EXPECT_EQ(Package::Open(folder / "p")->ranks(), 3);
  EXPECT_EQ(folder.Names(), (std::vector<std::string>{"data.bin", "p"}));
}

TEST_F(PackageTest, ForceReplacesNothingButPackages) {
  fs::create_directory(folder / "home");
  Spill(folder / "home/thesis", "years of work");
  const Status status = WritePackage(SampleProgram(), SampleContents(folder), folder / "home", {.force = true});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kUsage);
  EXPECT_EQ(Slurp(folder / "home/thesis"), "years of work");
  EXPECT_EQ(CheckPackagePath(folder / "data.bin", {.force = true}).error().code, Code::kUsage);
  EXPECT_EQ(CheckPackagePath(folder / "no/such/p").error().code, Code::kUsage);
  EXPECT_TRUE(CheckPackagePath(folder / "new").ok());
}

TEST_F(PackageTest, AFailureLeavesNothing) {
  PackageContents contents = SampleContents(folder);
  contents.weights[0].bytes = 16;  // too short for its shape
  const Status cut = WritePackage(SampleProgram(), contents, folder / "p");
  ASSERT_FALSE(cut.ok());
  EXPECT_EQ(cut.error().code, Code::kBadInput);
  EXPECT_NE(cut.error().where.find("block.w"), std::string::npos) << cut.error().Format();
  contents = SampleContents(folder);
  contents.weights[1].sizes = {3};
  EXPECT_EQ(WritePackage(SampleProgram(), contents, folder / "p").error().code, Code::kBadInput);
  contents = SampleContents(folder);
  contents.weights[1].name = "other";
  EXPECT_EQ(WritePackage(SampleProgram(), contents, folder / "p").error().code, Code::kFailed);
  program::ProgramT unsound = SampleProgram();
  unsound.tensors[0]->storage = 77;
  EXPECT_EQ(WritePackage(unsound, SampleContents(folder), folder / "p").error().code, Code::kFailed);
  EXPECT_EQ(folder.Names(), std::vector<std::string>{"data.bin"});
}

// A limit on the file size stands for a full disk.
TEST_F(PackageTest, AFullDiskLeavesTheOldPackage) {
  const PackageContents contents = SampleContents(folder);
  Write(2);
  const auto before = Tree(folder / "p");
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  getrlimit(RLIMIT_FSIZE, &old);
  for (const rlim_t bytes : {0, 100, 2500}) {  // the first byte; in the program; after the blobs, in the index
    const rlimit small = {bytes, old.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    const Status status = WritePackage(SampleProgram(16), contents, folder / "p", {.force = true});
    setrlimit(RLIMIT_FSIZE, &old);
    ASSERT_FALSE(status.ok()) << bytes;
    EXPECT_EQ(status.error().code, Code::kFailed) << status.error().Format();
    EXPECT_EQ(Tree(folder / "p"), before);
    EXPECT_EQ(folder.Names(), (std::vector<std::string>{"data.bin", "p"}));
  }
  std::signal(SIGXFSZ, handler);
}

TEST_F(PackageTest, WhatIsNoPackage) {
  EXPECT_EQ(OpenError("absent").code, Code::kBadInput);
  EXPECT_NE(OpenError("absent").what.find("no such package"), std::string::npos);
  fs::create_directory(folder / "empty");
  EXPECT_NE(OpenError("empty").what.find("not a package"), std::string::npos);
  Spill(folder / "file", "text");
  EXPECT_NE(OpenError("file").what.find("not a package"), std::string::npos);
}

TEST_F(PackageTest, AnotherFormatVersionIsNamed) {
  Write();
  const std::string index = Slurp(folder / "p" + "/index.json");
  std::string other = index;
  const std::string key = "\"vnd.autospc.format-version\": \"1\"";
  ASSERT_NE(other.find(key), std::string::npos);
  other.replace(other.find(key) + key.size() - 2, 1, "9");
  Spill(folder / "p" + "/index.json", other);
  EXPECT_EQ(OpenError().code, Code::kBadInput);
  EXPECT_NE(OpenError().what.find("format version 9, this build reads 1"), std::string::npos) << OpenError().Format();
}

TEST_F(PackageTest, ADifferentLayoutVersionOrTypeIsRefused) {
  Write();
  Spill(folder / "p" + "/oci-layout", R"({"imageLayoutVersion":"2.0.0"})");
  EXPECT_NE(OpenError().what.find("2.0.0"), std::string::npos);
  Spill(folder / "p" + "/oci-layout", R"({"imageLayoutVersion":"1.0.0"})");
  std::string index = Slurp(folder / "p" + "/index.json");
  const std::string good = index;
  index.replace(index.find("image.manifest.v1"), 17, "image.manifest.v2");
  Spill(folder / "p" + "/index.json", index);
  EXPECT_NE(OpenError().what.find("manifest of type"), std::string::npos) << OpenError().Format();
  index = good;
  const size_t at = index.find("sha256:");
  index.replace(at, 12, "sha256:../..");
  Spill(folder / "p" + "/index.json", index);
  EXPECT_NE(OpenError().what.find("not a sha256 digest"), std::string::npos) << OpenError().Format();
}

TEST_F(PackageTest, AFlippedByteNamesItsBlob) {
  Write();
  for (const auto& [file, content] : Tree(folder / "p")) {
    if (!file.starts_with("blobs/")) continue;
    for (const size_t at : {size_t{0}, content.size() / 2, content.size() - 1}) {
      std::string flipped = content;
      flipped[at] ^= 0x10;
      Spill(folder / "p/" + file, flipped);
      const Error error = OpenError();
      EXPECT_EQ(error.code, Code::kBadInput) << file;
      EXPECT_NE(error.where.find(file), std::string::npos) << error.Format();
      EXPECT_NE(error.what.find("digest"), std::string::npos) << error.Format();
    }
    Spill(folder / "p/" + file, content);
  }
  EXPECT_EQ(OpenError().code, Code::kOk);
}

TEST_F(PackageTest, ShortAndMissingBlobsAreNamed) {
  Write();
  for (const auto& [file, content] : Tree(folder / "p")) {
    if (!file.starts_with("blobs/")) continue;
    Spill(folder / "p/" + file, content.substr(0, content.size() - 1));
    EXPECT_NE(OpenError().where.find(file), std::string::npos) << OpenError().Format();
    fs::remove(folder / "p/" + file);
    EXPECT_EQ(OpenError().code, Code::kBadInput);
    EXPECT_NE(OpenError().where.find(file), std::string::npos) << OpenError().Format();
    Spill(folder / "p/" + file, content);
  }
}

TEST_F(PackageTest, DataCanBeVerifiedLater) {
  Write();
  const std::string weights = BlobOf(kWeightsType);
  std::string content = Slurp(weights);
  content.back() ^= 1;
  Spill(weights, content);
  auto package = Package::Open(folder / "p", {.verify_data = false});
  ASSERT_TRUE(package.ok()) << package.error().Format();
  const Status verified = package->VerifyData();
  ASSERT_FALSE(verified.ok());
  EXPECT_EQ(verified.error().where, weights);
}

TEST_F(PackageTest, AConstantWithoutDataIsRefused) {
  PackageContents contents = SampleContents(folder);
  contents.constants.clear();
  ASSERT_TRUE(WritePackage(SampleProgram(), contents, folder / "p").ok());
  EXPECT_NE(OpenError().what.find("no data for a constant"), std::string::npos);
  EXPECT_NE(OpenError().where.find("c0"), std::string::npos);
}

// The bound of 0.1 s is for an idle machine; the limit here only tells quadratic work from linear.
TEST_F(PackageTest, AThousandRanksCostSmallManifests) {
  const auto start = std::chrono::steady_clock::now();
  Write(1024);
  const auto written = std::chrono::steady_clock::now();
  auto package = Package::Open(folder / "p");
  const auto opened = std::chrono::steady_clock::now();
  ASSERT_TRUE(package.ok()) << package.error().Format();
  EXPECT_EQ(package->ranks(), 1024);
  EXPECT_LT(package->manifest_bytes(), 2048);
  const double write_s = std::chrono::duration<double>(written - start).count();
  const double open_s = std::chrono::duration<double>(opened - written).count();
  RecordProperty("write_seconds", std::to_string(write_s));
  RecordProperty("open_seconds", std::to_string(open_s));
  std::printf("1024 ranks: written in %.3f s, opened in %.3f s\n", write_s, open_s);
  EXPECT_LT(write_s, 2);
  EXPECT_LT(open_s, 2);
}

}  // namespace
}  // namespace autospc
