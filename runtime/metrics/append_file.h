// A log that grows while a program runs. What was appended is there for readers at once, whole lines or records; a
// temporary name and a rename would hide it until the end.
#pragma once

#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc::metrics {

class AppendFile {
 public:
  // Opens for appending; a new file if there is none. kFailed: it can't be written (`where` is the path).
  static Result<AppendFile> Open(const std::string& path);
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&&) = delete;
  ~AppendFile();

  const std::string& path() const { return path_; }
  Status Append(std::string_view data);

 private:
  AppendFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_ = -1;
};

}  // namespace autospc::metrics
