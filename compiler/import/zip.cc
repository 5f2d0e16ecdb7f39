#include "compiler/import/zip.h"

#include <algorithm>
#include <boost/crc.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <vector>

namespace autospc::import {
namespace {

constexpr uint32_t kEndSignature = 0x06054b50, kEnd64Signature = 0x06064b50, kLocator64Signature = 0x07064b50;
constexpr uint32_t kCentralSignature = 0x02014b50, kLocalSignature = 0x04034b50;
constexpr int64_t kEndBytes = 22, kLocator64Bytes = 20, kEnd64Bytes = 56, kCentralBytes = 46, kLocalBytes = 30;
constexpr int64_t kMaxComment = 0xffff;

// Little-endian fields of a buffer that the caller has checked to be long enough.
uint64_t Field(const char* at, int bytes) {
  uint64_t value = 0;
  for (int i = bytes - 1; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(at[i]);
  return value;
}
uint32_t U16(const char* at) { return static_cast<uint32_t>(Field(at, 2)); }
uint32_t U32(const char* at) { return static_cast<uint32_t>(Field(at, 4)); }

class File {
 public:
  File(const std::string& path, int64_t bytes) : stream_(path, std::ios::binary), bytes_(bytes) {}
  int64_t bytes() const { return bytes_; }
  bool open() const { return stream_.is_open(); }
  // `count` bytes at `offset`; false if the file does not hold them.
  bool Read(uint64_t offset, uint64_t count, std::string* out) {
    const uint64_t size = static_cast<uint64_t>(bytes_);
    if (offset > size || count > size - offset) return false;
    out->resize(count);
    stream_.clear();
    stream_.seekg(static_cast<std::streamoff>(offset));
    stream_.read(out->data(), static_cast<std::streamsize>(count));
    return stream_.gcount() == static_cast<std::streamsize>(count);
  }

 private:
  std::ifstream stream_;
  int64_t bytes_;
};

Error Bad(const std::string& path, std::string what,
          std::string hint = "export the model again with torch.export.save") {
  return {Code::kBadInput, std::move(what), path, std::move(hint)};
}

bool SafeName(std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find('\\') != name.npos || name.find('\0') != name.npos) return false;
  for (size_t at = 0; at <= name.size();) {
    const size_t end = std::min(name.find('/', at), name.size());
    if (name.substr(at, end - at) == "..") return false;
    at = end + 1;
  }
  return true;
}

struct Directory {
  uint64_t offset = 0, bytes = 0, entries = 0;
};

Result<Directory> FindDirectory(File& file, const std::string& path) {
  std::string tail;
  const int64_t tail_bytes = std::min(file.bytes(), kEndBytes + kMaxComment);
  if (!file.Read(file.bytes() - tail_bytes, tail_bytes, &tail)) return Bad(path, "the file can't be read");
  for (int64_t at = tail_bytes - kEndBytes; at >= 0; --at) {
    if (U32(&tail[at]) != kEndSignature) continue;
    Directory d{U32(&tail[at + 16]), U32(&tail[at + 12]), U16(&tail[at + 10])};
    if (d.offset != 0xffffffff && d.bytes != 0xffffffff && d.entries != 0xffff) return d;
    std::string end64;
    if (at < kLocator64Bytes || U32(&tail[at - kLocator64Bytes]) != kLocator64Signature ||
        !file.Read(Field(&tail[at - kLocator64Bytes + 8], 8), kEnd64Bytes, &end64) ||
        U32(&end64[0]) != kEnd64Signature) {
      return Bad(path, "the zip64 directory is broken");
    }
    return Directory{Field(&end64[48], 8), Field(&end64[40], 8), Field(&end64[32], 8)};
  }
  std::string head;
  if (file.Read(0, 4, &head) && U32(&head[0]) == kLocalSignature) {
    return Bad(path, "the zip archive is truncated: it has no directory at its end", "copy or export the file again");
  }
  return Bad(path, "this is no zip archive, so no .pt2 file", "give a file written by torch.export.save");
}

// The 8-byte fields of a zip64 extra field stand in for those that hold 0xffffffff, in this order.
bool ApplyZip64(std::string_view extra, uint64_t* size, uint64_t* packed, uint64_t* offset) {
  while (extra.size() >= 4) {
    const uint32_t id = U16(extra.data()), length = U16(extra.data() + 2);
    extra.remove_prefix(4);
    if (length > extra.size()) return false;
    if (id == 1) {
      std::string_view fields = extra.substr(0, length);
      for (uint64_t* field : {size, packed, offset}) {
        if (*field != 0xffffffff) continue;
        if (fields.size() < 8) return false;
        *field = Field(fields.data(), 8);
        fields.remove_prefix(8);
      }
      return true;
    }
    extra.remove_prefix(length);
  }
  return *size != 0xffffffff && *packed != 0xffffffff && *offset != 0xffffffff;
}

}  // namespace

Result<ZipDirectory> ZipDirectory::Open(const std::string& path) {
  std::error_code failed;
  const auto status = std::filesystem::status(path, failed);
  if (!std::filesystem::exists(status)) return Bad(path, "there is no such file", "check the path");
  if (std::filesystem::is_directory(status))
    return Bad(path, "this is a directory, not a .pt2 file", "give the .pt2 file");
  const auto size = std::filesystem::file_size(path, failed);
  if (failed) return Bad(path, "the file can't be read: " + failed.message(), "");
  if (size == 0) return Bad(path, "the file is empty");
  File file(path, static_cast<int64_t>(size));
  if (!file.open()) return Bad(path, fmt::format("the file can't be opened: {}", std::strerror(errno)), "");

  ASSIGN_OR_RETURN(const Directory d, FindDirectory(file, path));
  std::string table;
  if (d.entries > size / kCentralBytes || !file.Read(d.offset, d.bytes, &table)) {
    return Bad(path, "the zip directory reaches past the end of the file", "copy or export the file again");
  }
  ZipDirectory zip;
  zip.path_ = path;
  const Error broken = Bad(path, "the zip directory is broken", "copy or export the file again");
  std::string_view rest = table;
  for (uint64_t i = 0; i < d.entries; ++i) {
    if (rest.size() < kCentralBytes || U32(rest.data()) != kCentralSignature) return broken;
    const uint32_t flags = U16(rest.data() + 8), method = U16(rest.data() + 10);
    const uint32_t name_bytes = U16(rest.data() + 28), extra_bytes = U16(rest.data() + 30);
    const uint64_t entry_bytes = kCentralBytes + uint64_t{name_bytes} + extra_bytes + U16(rest.data() + 32);
    if (entry_bytes > rest.size()) return broken;
    const std::string name(rest.substr(kCentralBytes, name_bytes));
    uint64_t packed = U32(rest.data() + 20), bytes = U32(rest.data() + 24), header = U32(rest.data() + 42);
    if (!ApplyZip64(rest.substr(kCentralBytes + name_bytes, extra_bytes), &bytes, &packed, &header)) return broken;
    const uint32_t crc = U32(rest.data() + 16);
    rest.remove_prefix(entry_bytes);

    if (!SafeName(name)) {
      return Bad(path, fmt::format("the archive holds a member named '{}', which leaves its folder", name),
                 "such a file was not written by torch.export.save: don't use it");
    }
    if (method != 0 || packed != bytes) {
      return Bad(path, fmt::format("member '{}' is compressed", name),
                 "torch.export.save stores members uncompressed: don't repack the file");
    }
    if (flags & 1) return Bad(path, fmt::format("member '{}' is encrypted", name));
    std::string local;
    if (!file.Read(header, kLocalBytes, &local) || U32(&local[0]) != kLocalSignature) return broken;
    const uint64_t offset = header + kLocalBytes + U16(&local[26]) + U16(&local[28]);
    if (offset > size || bytes > size - offset) {
      return Bad(path, fmt::format("member '{}' of {} bytes reaches past the end of the file", name, bytes),
                 "copy or export the file again");
    }
    if (!zip.members_.emplace(name, ZipMember{static_cast<int64_t>(offset), static_cast<int64_t>(bytes), crc}).second) {
      return Bad(path, fmt::format("the archive holds two members named '{}'", name));
    }
  }
  return zip;
}

const ZipMember* ZipDirectory::Find(std::string_view name) const {
  const auto it = members_.find(name);
  return it == members_.end() ? nullptr : &it->second;
}

Result<std::string> ZipDirectory::Read(std::string_view name) const {
  const ZipMember* member = Find(name);
  if (!member) return Bad(path_, fmt::format("the archive has no member '{}'", name));
  std::string data(member->bytes, '\0');
  std::ifstream stream(path_, std::ios::binary);
  stream.seekg(member->offset);
  stream.read(data.data(), member->bytes);
  if (stream.gcount() != member->bytes) return Bad(path_, fmt::format("member '{}' can't be read", name));
  boost::crc_32_type crc;
  crc.process_bytes(data.data(), data.size());
  if (crc.checksum() != member->crc) {
    return Bad(path_, fmt::format("member '{}' is damaged: its checksum differs", name),
               "copy or export the file again");
  }
  return data;
}

}  // namespace autospc::import
