#include "runtime/metrics/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace autospc::metrics {
namespace {

Error CannotWrite(const std::string& path) {
  return Error{Code::kFailed, fmt::format("cannot write: {}", std::strerror(errno)), path,
               "is there space, does its folder exist, and may this user write there?"};
}

}  // namespace

Result<AppendFile> AppendFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666);
  if (fd < 0) return CannotWrite(path);
  return AppendFile(path, fd);
}

AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}

AppendFile::~AppendFile() {
  if (fd_ >= 0) close(fd_);
}

Status AppendFile::Append(std::string_view data) {
  while (!data.empty()) {
    const ssize_t n = write(fd_, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return CannotWrite(path_);
    data.remove_prefix(static_cast<size_t>(n));
  }
  return Ok();
}

}  // namespace autospc::metrics
