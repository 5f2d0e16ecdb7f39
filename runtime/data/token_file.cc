#include "runtime/data/token_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

namespace autospc::data {
namespace {

constexpr std::array<std::string_view, 5> kNames = {"uint8", "uint16", "uint32", "int32", "int64"};
constexpr std::array<int64_t, 5> kBytes = {1, 2, 4, 4, 8};

template <typename T>
void Load(const std::byte* from, int64_t count, int64_t* to) {
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    to[i] = static_cast<int64_t>(value);
  }
}

// Whether one of `count` elements lies outside [0, limit).
template <typename T>
bool AnyOutside(const std::byte* from, int64_t count, int64_t limit) {
  T least = std::numeric_limits<T>::max(), most = std::numeric_limits<T>::min();
  for (int64_t i = 0; i < count; ++i) {
    T value;
    std::memcpy(&value, from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
    least = std::min(least, value);
    most = std::max(most, value);
  }
  return static_cast<int64_t>(least) < 0 || static_cast<int64_t>(most) >= limit;
}

bool AnyOutside(TokenType type, const std::byte* from, int64_t count, int64_t limit) {
  switch (type) {
    case TokenType::kUInt8:
      return AnyOutside<uint8_t>(from, count, limit);
    case TokenType::kUInt16:
      return AnyOutside<uint16_t>(from, count, limit);
    case TokenType::kUInt32:
      return AnyOutside<uint32_t>(from, count, limit);
    case TokenType::kInt32:
      return AnyOutside<int32_t>(from, count, limit);
    case TokenType::kInt64:
      return AnyOutside<int64_t>(from, count, limit);
  }
  return false;
}

bool AllBelow(TokenType type, int64_t limit) {
  return (type == TokenType::kUInt8 && limit >= 256) || (type == TokenType::kUInt16 && limit >= 65536) ||
         (type == TokenType::kUInt32 && limit >= int64_t{1} << 32);
}

}  // namespace

int64_t TokenSize(TokenType type) { return kBytes[static_cast<size_t>(type)]; }
std::string_view TokenName(TokenType type) { return kNames[static_cast<size_t>(type)]; }

std::optional<TokenType> ParseTokenType(std::string_view name) {
  const auto* const it = std::find(kNames.begin(), kNames.end(), name);
  if (it == kNames.end()) return std::nullopt;
  return static_cast<TokenType>(it - kNames.begin());
}

void LoadTokens(TokenType type, const std::byte* from, int64_t count, int64_t* to) {
  switch (type) {
    case TokenType::kUInt8:
      return Load<uint8_t>(from, count, to);
    case TokenType::kUInt16:
      return Load<uint16_t>(from, count, to);
    case TokenType::kUInt32:
      return Load<uint32_t>(from, count, to);
    case TokenType::kInt32:
      return Load<int32_t>(from, count, to);
    case TokenType::kInt64:
      return Load<int64_t>(from, count, to);
  }
}

Result<std::optional<TokenHeader>> ReadTokenHeader(std::span<const std::byte> start, const std::string& where) {
  std::array<int32_t, 3> words{};
  if (start.size() < sizeof(words)) return std::optional<TokenHeader>();
  std::memcpy(words.data(), start.data(), sizeof(words));
  if (words[0] != kTokenMagic16 && words[0] != kTokenMagic32) return std::optional<TokenHeader>();
  const bool wide = words[0] == kTokenMagic32;
  if (words[1] != (wide ? 7 : 1)) {
    return Error{Code::kBadInput, fmt::format("an llm.c token file of version {}, which is none known here", words[1]),
                 where, "write it again with the present llm.c"};
  }
  if (words[2] < 0 || static_cast<int64_t>(start.size()) < kTokenHeaderBytes) {
    return Error{Code::kBadInput, "an llm.c token file whose header is cut off or counts less than no tokens", where,
                 "write it again"};
  }
  return std::optional(TokenHeader{wide ? TokenType::kUInt32 : TokenType::kUInt16, words[2]});
}

Result<TokenFile> TokenFile::Open(const std::string& path, std::optional<TokenType> type) {
  TokenFile file;
  ASSIGN_OR_RETURN(file.file_, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const std::optional<TokenHeader> header, ReadTokenHeader(file.file_.bytes(), path));
  if (header) {
    if (type && *type != header->type) {
      return Error{
          Code::kBadInput,
          fmt::format("its header says {}, and --token-dtype says {}", TokenName(header->type), TokenName(*type)), path,
          "leave --token-dtype out: llm.c's files say it themselves"};
    }
    file.offset_ = kTokenHeaderBytes;
    file.type_ = header->type;
  } else {
    file.type_ = type.value_or(TokenType::kUInt16);
  }
  const int64_t bytes = file.file_.size() - file.offset_, element = TokenSize(file.type_);
  if (header && header->tokens * element != bytes) {
    return Error{
        Code::kBadInput,
        fmt::format("its header counts {} tokens of {} bytes, and {} bytes follow it", header->tokens, element, bytes),
        path, "the file is cut off or damaged: write it again"};
  }
  if (bytes % element != 0) {
    return Error{
        Code::kBadInput,
        fmt::format("{} bytes are not a whole number of {} tokens of {} bytes", bytes, TokenName(file.type_), element),
        path, "give the tokens' type with --token-dtype"};
  }
  if (bytes == 0) return Error{Code::kBadInput, "it holds no token", path, ""};
  file.size_ = bytes / element;
  return file;
}

void TokenFile::WillNeed(int64_t begin, int64_t count) const {
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto first = reinterpret_cast<uintptr_t>(At(begin)), start = first / page * page;
  const size_t bytes = first - start + static_cast<size_t>(count * TokenSize(type_));
  (void)madvise(reinterpret_cast<void*>(start), bytes, MADV_WILLNEED);  // a wish: nothing depends on it
}

std::optional<int64_t> TokenFile::FindOutside(int64_t limit) const {
  if (AllBelow(type_, limit)) return std::nullopt;
  constexpr int64_t kPiece = 1 << 16;
  std::vector<int64_t> tokens(kPiece);
  for (int64_t begin = 0; begin < size_; begin += kPiece) {
    const int64_t count = std::min(kPiece, size_ - begin);
    if (!AnyOutside(type_, At(begin), count, limit)) continue;
    Read(begin, count, tokens.data());
    for (int64_t i = 0; i < count; ++i) {
      if (tokens[i] < 0 || tokens[i] >= limit) return begin + i;
    }
  }
  return std::nullopt;
}

}  // namespace autospc::data
