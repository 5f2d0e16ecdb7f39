// Files: read with a size check, mapped, written so that a reader sees the old content or the new one whole.
// Errors: kBadInput for what can't be read, kFailed for what can't be written; `where` is the path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc {

// A read-only private mapping of a whole regular file. Moves; unmaps at its end.
class MappedFile {
 public:
  static Result<MappedFile> Open(const std::string& path);
  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const std::string& path() const { return path_; }
  const std::byte* data() const { return data_; }
  int64_t size() const { return size_; }
  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_)}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), static_cast<size_t>(size_)}; }

 private:
  std::string path_;
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

// The whole file; kBadInput if it is longer than `max_bytes` (checked before memory is taken).
Result<std::string> ReadFile(const std::string& path, int64_t max_bytes);

// A file written under a temporary name beside its path. Commit gives it its name; without it, or after an
// error, nothing is left. A symbolic link stays: what it points to gets the new content. Renaming over a path
// that is no regular file (/dev/null, a pipe) would put a file in its place, so that is opened and written to
// as it is, and Commit only closes it. A folder is refused: kUsage.
class FileWriter {
 public:
  static Result<FileWriter> Create(const std::string& path);
  FileWriter(FileWriter&& other) noexcept;
  FileWriter& operator=(FileWriter&&) = delete;
  ~FileWriter();

  Status Write(const void* data, int64_t bytes);
  int64_t written() const { return written_; }
  // fsync (if `durable`), then rename to the path, or to `path` if given (same file system, no special file).
  Status Commit(bool durable = true, const std::string& path = "");

 private:
  FileWriter(std::string path, std::string temporary, int fd);
  std::string path_, temporary_;  // temporary_ is empty where path_ is written to as it is
  int fd_ = -1;
  int64_t written_ = 0;
};

// For files of a folder that nobody sees yet: written where it stands, not synced. The path must be free.
Status WriteNewFile(const std::string& path, std::string_view content);
Status WriteFileAtomically(const std::string& path, std::string_view content, bool durable = true);

// Renames `path` to `target` on one file system, durably. kUsage if the target exists, unless `replace`: then the two are
// exchanged in one step (two renames where the file system can't) and the old one is removed. kFailed: the disk; then
// `target` is as it was.
Status MoveFolder(const std::string& path, const std::string& target, bool replace);

// A folder under a temporary name beside `target`, to become it. Removed with all it holds unless committed.
// kUsage where `target` is a device, a pipe or a socket: nothing may take their place.
class TempDirBeside {
 public:
  static Result<TempDirBeside> Create(const std::string& target);
  TempDirBeside(TempDirBeside&& other) noexcept;
  TempDirBeside& operator=(TempDirBeside&&) = delete;
  ~TempDirBeside();

  const std::string& path() const { return path_; }
  // As MoveFolder to the target.
  Status Commit(bool replace);

 private:
  TempDirBeside(std::string target, std::string path) : target_(std::move(target)), path_(std::move(path)) {}
  std::string target_, path_;
};

}  // namespace autospc
