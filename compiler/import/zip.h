// The directory of a zip archive whose members are stored, not compressed: where each member's bytes lie in
// the file. Format: PKWARE APPNOTE 6.3, with zip64. Every offset and size is checked against the file's size,
// so nothing here allocates what a broken header asks for.
//
// Errors are kBadInput: no such file, an empty file, no zip, a truncated zip, a compressed or encrypted
// member, a member name that is absolute or holds "..", a member reaching past the end of the file.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc::import {

struct ZipMember {
  int64_t offset = 0;  // of the first byte of its data, from the start of the file
  int64_t bytes = 0;
  uint32_t crc = 0;  // CRC-32 of its data
};

class ZipDirectory {
 public:
  static Result<ZipDirectory> Open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::map<std::string, ZipMember, std::less<>>& members() const { return members_; }
  const ZipMember* Find(std::string_view name) const;  // nullptr if there is none
  // A member's bytes, its checksum compared.
  Result<std::string> Read(std::string_view name) const;

 private:
  std::string path_;
  std::map<std::string, ZipMember, std::less<>> members_;
};

}  // namespace autospc::import
