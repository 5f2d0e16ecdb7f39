#include "runtime/base/move_folder.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace autospc {
namespace {

namespace fs = std::filesystem;

Error CannotWrite(const std::string& path) {
  return {Code::kFailed, fmt::format("cannot write: {}", std::strerror(errno)), path, "is there space, and may this user write there?"};
}

void SyncParent(const std::string& path) {
  const fs::path parent = fs::path(path).has_parent_path() ? fs::path(path).parent_path() : fs::path(".");
  const int fd = open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  (void)fsync(fd);
  close(fd);
}

}  // namespace

Status MoveFolder(const std::string& path, const std::string& target, bool replace) {
  std::error_code error;
  if (renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, target.c_str(), RENAME_NOREPLACE) == 0) {
    SyncParent(target);
    return Ok();
  }
  const bool no_flags = errno == EINVAL || errno == ENOSYS;  // a file system without renameat2's flags
  if (!no_flags && errno != EEXIST) return CannotWrite(target);
  const bool exists = fs::exists(fs::symlink_status(target, error));
  if (exists && !replace) return Error{Code::kUsage, "the output exists", target, "give another name"};
  std::string old = path;  // where the old one is after an exchange
  if (!exists || renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) != 0) {
    old = exists ? path + ".old" : "";
    if (exists && rename(target.c_str(), old.c_str()) != 0) return CannotWrite(target);
    if (rename(path.c_str(), target.c_str()) != 0) {
      const Error failed = CannotWrite(target);
      if (exists) (void)rename(old.c_str(), target.c_str());
      return failed;
    }
  }
  SyncParent(target);
  if (!old.empty()) fs::remove_all(old, error);
  return Ok();
}

}  // namespace autospc
