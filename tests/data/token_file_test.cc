// Token files: llm.c's and bare ones, and each way in which one can be wrong.
#include "runtime/data/token_file.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/data/token_files.h"
#include "tests/package/temp_folder.h"

namespace autospc::data {
namespace {

std::vector<int64_t> All(const TokenFile& file) {
  std::vector<int64_t> tokens(file.size());
  file.Read(0, file.size(), tokens.data());
  return tokens;
}

std::string Refusal(const std::string& path, std::optional<TokenType> type = std::nullopt) {
  const Result<TokenFile> file = TokenFile::Open(path, type);
  EXPECT_FALSE(file.ok()) << path;
  if (file.ok()) return "";
  EXPECT_EQ(file.error().code, Code::kBadInput);
  EXPECT_EQ(file.error().where, path);
  return file.error().what;
}

TEST(TokenFileTest, BareFilesOfEveryType) {
  TempFolder folder;
  const std::vector<int64_t> tokens = {0, 1, 200, 3, 255};
  for (TokenType type :
       {TokenType::kUInt8, TokenType::kUInt16, TokenType::kUInt32, TokenType::kInt32, TokenType::kInt64}) {
    SCOPED_TRACE(TokenName(type));
    const std::string path = folder / std::string(TokenName(type));
    Spill(path, TokenBytes(type, tokens));
    auto file = TokenFile::Open(path, type);
    ASSERT_TRUE(file.ok()) << file.error().Format();
    EXPECT_EQ(All(*file), tokens);
    EXPECT_EQ(ParseTokenType(TokenName(type)), type);
    EXPECT_EQ(file->FindOutside(256), std::nullopt);
    EXPECT_EQ(file->FindOutside(255), 4);
    EXPECT_EQ(file->FindOutside(3), 2);
  }
  EXPECT_EQ(ParseTokenType("float"), std::nullopt);
}

TEST(TokenFileTest, UnsignedTypesHoldWhatIsAboveTheSignedOnes) {
  TempFolder folder;
  Spill(folder / "a", TokenBytes(TokenType::kUInt16, {65535, 40000}));
  Spill(folder / "b", TokenBytes(TokenType::kUInt32, {4294967295, 1}));
  Spill(folder / "c", TokenBytes(TokenType::kInt32, {5, -1}));
  EXPECT_EQ(All(*TokenFile::Open(folder / "a")), (std::vector<int64_t>{65535, 40000}));
  EXPECT_EQ(All(*TokenFile::Open(folder / "b", TokenType::kUInt32)), (std::vector<int64_t>{4294967295, 1}));
  EXPECT_EQ(TokenFile::Open(folder / "c", TokenType::kInt32)->FindOutside(100), 1);  // negative
}

TEST(TokenFileTest, HeadersOfLlmC) {
  TempFolder folder;
  Spill(folder / "gpt2.bin", WithHeader(TokenType::kUInt16, {7, 50256, 8}));
  Spill(folder / "llama3.bin", WithHeader(TokenType::kUInt32, {7, 128000}));
  auto narrow = TokenFile::Open(folder / "gpt2.bin"), wide = TokenFile::Open(folder / "llama3.bin");
  ASSERT_TRUE(narrow.ok() && wide.ok());
  EXPECT_EQ(All(*narrow), (std::vector<int64_t>{7, 50256, 8}));
  EXPECT_EQ(All(*wide), (std::vector<int64_t>{7, 128000}));
  EXPECT_EQ(wide->type(), TokenType::kUInt32);
}

TEST(TokenFileTest, SaysWhatIsWrong) {
  TempFolder folder;
  Spill(folder / "odd", "abc");
  EXPECT_NE(Refusal(folder / "odd").find("3 bytes are not a whole number of uint16"), std::string::npos);
  Spill(folder / "empty", "");
  EXPECT_NE(Refusal(folder / "empty").find("no token"), std::string::npos);
  Refusal(folder / "absent");
  const std::string whole = WithHeader(TokenType::kUInt16, {1, 2, 3});
  Spill(folder / "cut", whole.substr(0, whole.size() - 2));
  EXPECT_NE(Refusal(folder / "cut").find("counts 3 tokens of 2 bytes, and 4 bytes follow"), std::string::npos);
  Spill(folder / "long", whole + "xx");
  EXPECT_NE(Refusal(folder / "long").find("8 bytes follow"), std::string::npos);
  Spill(folder / "short_header", whole.substr(0, 900));
  EXPECT_NE(Refusal(folder / "short_header").find("cut off"), std::string::npos);
  std::string version = whole;
  version[4] = 9;
  Spill(folder / "version", version);
  EXPECT_NE(Refusal(folder / "version").find("version 9"), std::string::npos);
  Spill(folder / "header", whole);
  EXPECT_NE(Refusal(folder / "header", TokenType::kUInt32).find("its header says uint16"), std::string::npos);
}

TEST(TokenFileTest, EveryTruncationIsReadOrRefused) {
  TempFolder folder;
  const std::string whole = WithHeader(TokenType::kUInt32, {1, 2, 3, 4});
  for (size_t length = 0; length <= whole.size(); ++length) {
    Spill(folder / "f", whole.substr(0, length));
    const auto file = TokenFile::Open(folder / "f");
    if (file.ok()) All(*file);
    // Below twelve bytes nothing tells it from a bare file.
    EXPECT_EQ(file.ok(), length == whole.size() || (length < 12 && length > 0 && length % 2 == 0)) << length;
  }
}

}  // namespace
}  // namespace autospc::data
