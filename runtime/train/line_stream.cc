#include "runtime/train/line_stream.h"

#include <unistd.h>

#include <array>
#include <cerrno>

namespace autospc::train {

void LineStream::Write(std::string_view text) const {
  while (!text.empty()) {
    const ssize_t n = write(target_, text.data(), text.size());
    if (n < 0 && errno != EINTR) return;  // nobody reads us: the ranks' work goes on
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
}

bool LineStream::Pump() {
  std::array<char, 65536> buffer;
  const ssize_t n = read(fd_, buffer.data(), buffer.size());
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  if (n == 0) {
    if (!pending_.empty()) Write(prefix_ + pending_ + "\n");
    pending_.clear();
    return false;
  }
  pending_.append(buffer.data(), static_cast<size_t>(n));
  std::string whole;
  size_t start = 0;
  for (size_t end; (end = pending_.find('\n', start)) != std::string::npos; start = end + 1) {
    whole += prefix_;
    whole.append(pending_, start, end + 1 - start);
  }
  pending_.erase(0, start);
  Write(whole);
  return true;
}

}  // namespace autospc::train
