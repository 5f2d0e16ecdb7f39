#include "runtime/train/line_stream.h"

#include <unistd.h>

#include <array>
#include <cerrno>

#include "runtime/base/log.h"
#include "runtime/base/status_line.h"
#include "runtime/metrics/progress_bar.h"

namespace autospc::train {
namespace {

// Rank 0's word on how far it is, for the foot of the terminal.
bool TookProgress(std::string_view line) {
  const auto state = metrics::DecodeProgress(line);
  if (!state) return false;
  SetStatusLine([state](int columns) { return metrics::BarText(*state, columns, ColorAllowed()); });
  return true;
}

}  // namespace

void LineStream::Write(std::string_view text) const {
  if (!text.empty()) WriteAbove(target_, text);  // lost where nobody reads us: the ranks' work goes on
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
    if (target_ == STDERR_FILENO && TookProgress(std::string_view(pending_).substr(start, end - start))) continue;
    whole += prefix_;
    whole.append(pending_, start, end + 1 - start);
  }
  pending_.erase(0, start);
  Write(whole);
  return true;
}

}  // namespace autospc::train
