// ./dev shows hostile, shortened: small files of each kind, cut off at every length and with bits turned. Nothing crashes
// or hangs, and nobody takes more memory than twice the file and a constant.
#include "tests/fuzz/hostile.h"

#include <gtest/gtest.h>

#include "compiler/import/import.h"
#include "runtime/data/token_file.h"
#include "runtime/package/golden.h"
#include "tests/import/rich_model.h"
#include "tests/package/sample.h"

namespace autospc::fuzz {
namespace {

constexpr int64_t kConstant = 4 << 20;  // readers' buffers, LibTorch's table of ops

void Check(const Outcome& outcome) {
  EXPECT_GT(outcome.tries, 0);
  EXPECT_LE(outcome.peak_bytes, 2 * outcome.file_bytes + kConstant);
}

Status Import(const std::string& path) {
  const auto model = import::ImportPt2(path);
  return model.ok() ? Ok() : Status(model.error());
}

TEST(Hostile, Exports) {
  const TempFolder folder;
  const std::string path = folder / "m.pt2";
  Spill(path, import::testing::Zip(import::testing::RichModel().Members()));
  ASSERT_TRUE(Import(path).ok());
  const Outcome cut = Truncations(path, [&] { return Import(path); });
  Check(cut);
  EXPECT_EQ(cut.accepted, 0) << "the directory stands at the end of the file";
  const Outcome flipped = Flips(path, [&] { return Import(path); }, 1000, 1);
  Check(flipped);
  EXPECT_LT(flipped.accepted, flipped.tries / 2) << "checksums cover what is read";
}

TEST(Hostile, Packages) {
  const TempFolder folder;
  const std::string path = folder / "p";
  ASSERT_TRUE(WritePackage(SampleProgram(2), SampleContents(folder), path).ok());
  const auto open = [&]() -> Status {
    const auto package = autospc::Package::Open(path);
    return package.ok() ? Ok() : Status(package.error());
  };
  ASSERT_TRUE(open().ok());
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
    if (entry.is_regular_file()) files.push_back(entry.path().string());
  }
  for (const std::string& file : files) {
    SCOPED_TRACE(file);
    const Outcome cut = Truncations(file, open, file.find("/blobs/") != file.npos ? 7 : 1);
    Check(cut);
    // But for the line's end after the index.
    EXPECT_LE(cut.accepted, file.ends_with("/index.json") ? 1 : 0);
    Check(Flips(file, open, 50, 2));
  }
  EXPECT_TRUE(open().ok());
}

TEST(Hostile, Tensors) {
  const TempFolder folder;
  const std::string path = folder / "t";
  const std::vector<double> data(16, 1.5);
  ASSERT_TRUE(WriteSafetensors(path, {{"loss", program::DType::Float64, {}, data.data(), nullptr},
                                      {"grad.w", program::DType::Float32, {4, 3}, data.data(), nullptr}}).ok());
  const auto open = [&]() -> Status {
    const auto golden = GoldenFile::Open(path);
    return golden.ok() ? Ok() : Status(golden.error());
  };
  ASSERT_TRUE(open().ok());
  const Outcome cut = Truncations(path, open);
  Check(cut);
  EXPECT_EQ(cut.accepted, 0);
  Check(Flips(path, open, 2000, 3));
}

TEST(Hostile, TokenFiles) {
  const TempFolder folder;
  const std::string path = folder / "t";
  std::string file(1024, '\0');
  const int32_t words[] = {data::kTokenMagic16, 1, 40};
  std::memcpy(file.data(), words, sizeof(words));
  Spill(path, file + std::string(80, '\1'));
  const auto open = [&]() -> Status {
    const auto tokens = data::TokenFile::Open(path);
    return tokens.ok() ? Ok() : Status(tokens.error());
  };
  ASSERT_TRUE(open().ok());
  const Outcome cut = Truncations(path, open);
  Check(cut);
  EXPECT_LE(cut.accepted, 6) << "what is shorter than the magic number is a bare file of tokens";
  Check(Flips(path, open, 1000, 4));
}

}  // namespace
}  // namespace autospc::fuzz
