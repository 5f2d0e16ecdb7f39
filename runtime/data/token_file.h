// Files of token ids, mapped: bare arrays (nanoGPT's train.bin) and llm.c's, which begin with a header of 256 int32:
// magic 20240520, version 1 (uint16) or magic 20240801, version 7 (uint32), then the number of tokens.
// https://github.com/karpathy/llm.c, dev/data/data_common.py.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/files.h"
#include "runtime/base/result.h"

namespace autospc::data {

enum class TokenType : uint8_t { kUInt8, kUInt16, kUInt32, kInt32, kInt64 };

int64_t TokenSize(TokenType type);
std::string_view TokenName(TokenType type);  // "uint16"
std::optional<TokenType> ParseTokenType(std::string_view name);

// What the first bytes of a file or stream say: llm.c's header, or nothing.
struct TokenHeader {
  TokenType type = TokenType::kUInt16;
  int64_t tokens = 0;
};
inline constexpr int64_t kTokenHeaderBytes = 1024;
inline constexpr int32_t kTokenMagic16 = 20240520, kTokenMagic32 = 20240801;
// kBadInput: the magic is there, and the version or the number is none. nullopt: no such header.
Result<std::optional<TokenHeader>> ReadTokenHeader(std::span<const std::byte> start, const std::string& where);

// `count` tokens at `from`, which need not be aligned, as int64.
void LoadTokens(TokenType type, const std::byte* from, int64_t count, int64_t* to);

class TokenFile {
 public:
  // `type`: of a bare file, uint16 where it is not given. kBadInput: no regular file, empty, not a whole number of
  // tokens, a header that contradicts `type` or the file's size.
  static Result<TokenFile> Open(const std::string& path, std::optional<TokenType> type = std::nullopt);

  const std::string& path() const { return file_.path(); }
  int64_t size() const { return size_; }  // tokens
  TokenType type() const { return type_; }
  void Read(int64_t begin, int64_t count, int64_t* to) const { LoadTokens(type_, At(begin), count, to); }
  // Asks the system to read these tokens ahead.
  void WillNeed(int64_t begin, int64_t count) const;
  // The first token that is negative or not below `limit`; nullopt if there is none. Reads the file only where its
  // type can hold such a token.
  std::optional<int64_t> FindOutside(int64_t limit) const;

 private:
  const std::byte* At(int64_t token) const { return file_.data() + offset_ + token * TokenSize(type_); }
  MappedFile file_;
  TokenType type_ = TokenType::kUInt16;
  int64_t offset_ = 0;  // of the first token, in bytes
  int64_t size_ = 0;
};

}  // namespace autospc::data
