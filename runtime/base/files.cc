#include "runtime/base/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>

namespace autospc {
namespace {

namespace fs = std::filesystem;

std::string Reason() { return std::strerror(errno); }

Error ReadError(const std::string& path, const std::string& reason) {
  return {Code::kBadInput, "cannot read file: " + reason, path, "is the path right, and may this user read it?"};
}

Error WriteError(const std::string& path, const std::string& reason) {
  return {Code::kFailed, "cannot write: " + reason, path, "is there space, and may this user write there?"};
}

// What a target's temporary name begins with: beside it, hidden, so that a glob does not find it.
Result<std::string> StemBeside(const std::string& target) {
  fs::path path = fs::path(target).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();  // a trailing slash
  if (path.empty() || path.filename() == "." || path.filename() == "..")
    return Error{Code::kUsage, "not a name for an output", target, "give the name of a new file or folder"};
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  std::error_code error;
  if (!fs::is_directory(parent, error))
    return Error{Code::kUsage, "the output's parent folder does not exist", parent.string(), "make it first"};
  return (parent / fmt::format(".{}.{}.", path.filename().string(), getpid())).string();
}

// Calls make(name) with fresh names beside `target` until it takes one; its result is >= 0 then, and -1 with
// errno EEXIST for a name that is taken.
template <typename Make>
Result<std::string> TakeNameBeside(const std::string& target, Make make) {
  ASSIGN_OR_RETURN(const std::string stem, StemBeside(target));
  for (int i = 0;; ++i) {
    std::string name = stem + std::to_string(i);
    if (make(name.c_str()) >= 0) return name;
    if (errno != EEXIST) return WriteError(target, Reason());
  }
}

Result<std::string> MakeFolderBeside(const std::string& target) {
  return TakeNameBeside(target, [](const char* name) { return mkdir(name, 0777); });
}

// Opens a regular file and takes its size.
Result<int> OpenRegular(const std::string& path, int64_t* size) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return ReadError(path, Reason());
  struct stat info;
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return ReadError(path, S_ISDIR(info.st_mode) ? "it is a folder" : "it is not a regular file");
  }
  *size = info.st_size;
  return fd;
}

// Neither file nor folder: a device, a pipe, a socket. Links are followed.
bool IsSpecial(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode);
}

// Where a new content of `path` belongs: beside what a link points to, so that the link stays.
std::string BehindLinks(const std::string& path) {
  std::error_code error;
  if (!fs::is_symlink(fs::symlink_status(path, error))) return path;
  const fs::path real = fs::canonical(path, error);
  return error ? path : real.string();  // a link to nothing is replaced
}

Status WriteAll(int fd, const void* data, int64_t bytes, const std::string& path) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = write(fd, from, static_cast<size_t>(std::min<int64_t>(bytes, 1 << 30)));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return WriteError(path, Reason());
    from += n;
    bytes -= n;
  }
  return Ok();
}

void SyncFolderOf(const std::string& path) {
  const fs::path parent = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  const int fd = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd);
  close(fd);
}

}  // namespace

Result<MappedFile> MappedFile::Open(const std::string& path) {
  MappedFile file;
  file.path_ = path;
  ASSIGN_OR_RETURN(const int fd, OpenRegular(path, &file.size_));
  if (file.size_ > 0) {
    void* data = mmap(nullptr, static_cast<size_t>(file.size_), PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) {
      const Error error = ReadError(path, Reason());
      close(fd);
      file.size_ = 0;
      return error;
    }
    file.data_ = static_cast<const std::byte*>(data);
  }
  close(fd);
  return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

Result<std::string> ReadFile(const std::string& path, int64_t max_bytes) {
  int64_t size = 0;
  ASSIGN_OR_RETURN(const int fd, OpenRegular(path, &size));
  if (size > max_bytes) {
    close(fd);
    return ReadError(path, fmt::format("it has {} bytes, at most {} are expected", size, max_bytes));
  }
  std::string content(static_cast<size_t>(size), '\0');
  int64_t done = 0;
  while (done < size) {
    const ssize_t n = read(fd, content.data() + done, static_cast<size_t>(size - done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const Error error = ReadError(path, n < 0 ? Reason() : "it became shorter while it was read");
      close(fd);
      return error;
    }
    done += n;
  }
  close(fd);
  return content;
}

Result<FileWriter> FileWriter::Create(const std::string& given) {
  int fd = -1;
  if (IsSpecial(given)) {
    fd = open(given.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0) return WriteError(given, Reason());
    return FileWriter(given, "", fd);
  }
  const std::string path = BehindLinks(given);
  std::error_code error;
  if (fs::is_directory(path, error)) return Error{Code::kUsage, "the output is a folder", given, "name a file"};
  ASSIGN_OR_RETURN(std::string name, TakeNameBeside(path, [&](const char* name) {
                     return fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
                   }));
  return FileWriter(path, std::move(name), fd);
}

FileWriter::FileWriter(std::string path, std::string temporary, int fd)
    : path_(std::move(path)), temporary_(std::move(temporary)), fd_(fd) {}

FileWriter::FileWriter(FileWriter&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, "")),
      fd_(std::exchange(other.fd_, -1)),
      written_(other.written_) {}

FileWriter::~FileWriter() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

Status FileWriter::Write(const void* data, int64_t bytes) {
  RETURN_IF_ERROR(WriteAll(fd_, data, bytes, path_));
  written_ += bytes;
  return Ok();
}

Status FileWriter::Commit(bool durable, const std::string& path) {
  const std::string& target = path.empty() ? path_ : path;
  const bool as_it_is = temporary_.empty();
  if (as_it_is ? target != path_ : IsSpecial(target)) {
    return Error{Code::kUsage, "a device or a pipe can't be renamed or replaced", target, "name another output"};
  }
  if (durable && fsync(fd_) != 0 && !as_it_is) return WriteError(target, Reason());  // devices need not know fsync
  if (close(std::exchange(fd_, -1)) != 0) return WriteError(target, Reason());
  if (as_it_is) return Ok();
  if (rename(temporary_.c_str(), target.c_str()) != 0) return WriteError(target, Reason());
  temporary_.clear();
  if (durable) SyncFolderOf(target);
  return Ok();
}

Status WriteNewFile(const std::string& path, std::string_view content) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return WriteError(path, Reason());
  Status status = WriteAll(fd, content.data(), static_cast<int64_t>(content.size()), path);
  if (close(fd) != 0 && status.ok()) status = WriteError(path, Reason());
  return status;
}

Status WriteFileAtomically(const std::string& path, std::string_view content, bool durable) {
  ASSIGN_OR_RETURN(FileWriter writer, FileWriter::Create(path));
  RETURN_IF_ERROR(writer.Write(content.data(), static_cast<int64_t>(content.size())));
  return writer.Commit(durable);
}

Result<TempDirBeside> TempDirBeside::Create(const std::string& target) {
  if (IsSpecial(target)) {
    return Error{Code::kUsage, "the output is a device or a pipe", target, "give the name of a new folder"};
  }
  ASSIGN_OR_RETURN(std::string name, MakeFolderBeside(target));
  fs::path normal = fs::path(target).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();
  return TempDirBeside(normal.string(), std::move(name));
}

TempDirBeside::TempDirBeside(TempDirBeside&& other) noexcept
    : target_(std::move(other.target_)), path_(std::exchange(other.path_, "")) {}

TempDirBeside::~TempDirBeside() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

Status TempDirBeside::Commit(bool replace) {
  RETURN_IF_ERROR(MoveFolder(path_, target_, replace));
  path_.clear();
  return Ok();
}

Status MoveFolder(const std::string& path, const std::string& target, bool replace) {
  if (renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) == 0) {
    SyncFolderOf(target);
    return Ok();
  }
  const bool no_flags = errno == EINVAL || errno == ENOSYS;  // a file system without renameat2's flags
  if (!no_flags && errno != EEXIST) return WriteError(target, Reason());
  std::error_code error;
  const bool exists = fs::exists(fs::symlink_status(target, error));
  if (exists && !replace) return Error{Code::kUsage, "the output exists", target, "give another name, or --force"};
  std::string old;  // where the old one is after all
  if (exists && renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    old = path;
  } else {
    if (exists) {
      ASSIGN_OR_RETURN(old, MakeFolderBeside(target));
      if (rename(target.c_str(), old.c_str()) != 0) return WriteError(target, Reason());
    }
    if (rename(path.c_str(), target.c_str()) != 0) {
      const Error failed = WriteError(target, Reason());
      if (!old.empty()) (void)rename(old.c_str(), target.c_str());
      return failed;
    }
  }
  SyncFolderOf(target);
  if (!old.empty()) fs::remove_all(old, error);
  return Ok();
}

}  // namespace autospc
