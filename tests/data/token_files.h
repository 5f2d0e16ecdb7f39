// Token files as tests write them.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/data/token_file.h"

namespace autospc::data {

inline std::string TokenBytes(TokenType type, const std::vector<int64_t>& tokens) {
  std::string bytes;  // little endian: the first bytes of an int64 are the narrower types'
  for (int64_t token : tokens)
    bytes.append(reinterpret_cast<const char*>(&token), static_cast<size_t>(TokenSize(type)));
  return bytes;
}

inline std::string WithHeader(TokenType type, const std::vector<int64_t>& tokens) {
  std::vector<int32_t> header(256, 0);
  header[0] = type == TokenType::kUInt32 ? 20240801 : 20240520;
  header[1] = type == TokenType::kUInt32 ? 7 : 1;
  header[2] = static_cast<int32_t>(tokens.size());
  return std::string(reinterpret_cast<const char*>(header.data()), 1024) + TokenBytes(type, tokens);
}

inline std::vector<int64_t> Count(int64_t from, int64_t n) {
  std::vector<int64_t> tokens;
  for (int64_t i = 0; i < n; ++i) tokens.push_back(from + i);
  return tokens;
}

}  // namespace autospc::data
