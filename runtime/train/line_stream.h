// Passes the lines of a rank's output on, each behind the rank's name, so that lines of several ranks do not mix.
#pragma once

#include <string>
#include <string_view>

namespace autospc::train {

class LineStream {
 public:
  // Reads `fd`, which it does not close, and writes to `target`.
  LineStream(int fd, int target, std::string prefix) : fd_(fd), target_(target), prefix_(std::move(prefix)) {}

  int fd() const { return fd_; }
  // Passes on what there is to read; false at the end of the stream, when a last line without its end is passed on too.
  bool Pump();

 private:
  void Write(std::string_view text) const;

  int fd_;
  int target_;
  std::string prefix_;
  std::string pending_;
};

}  // namespace autospc::train
