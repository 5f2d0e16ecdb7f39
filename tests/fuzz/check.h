// Promises that the entries hold the product to.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc::fuzz {

[[noreturn]] inline void Broken(const std::string& promise) {
  std::fprintf(stderr, "broken promise: %s\n", promise.c_str());
  std::abort();
}

// An error of the input: it says what, and its exit code is one of those that the reader documents.
inline void CheckError(const Error& error, std::initializer_list<Code> codes) {
  if (error.what.empty()) Broken("an error says what is wrong");
  for (const Code code : codes) {
    if (error.code == code) return;
  }
  Broken("exit code " + std::to_string(static_cast<int>(error.code)) + " for a bad input: " + error.Format());
}

// Bytes as a file that lies in memory alone.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view bytes) : fd_(memfd_create("fuzz", MFD_CLOEXEC)) {
    for (size_t done = 0; done < bytes.size();) {
      const ssize_t n = write(fd_, bytes.data() + done, bytes.size() - done);
      if (n <= 0) Broken("a file in memory can be written");
      done += static_cast<size_t>(n);
    }
    path_ = "/proc/self/fd/" + std::to_string(fd_);
  }
  ~MemoryFile() { close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  int fd_;
  std::string path_;
};

}  // namespace autospc::fuzz
