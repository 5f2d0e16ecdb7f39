// A side stream that begins nothing before somebody waits for it: the latest that a device's may be. What an
// instruction that ought to wait does too early shows in the results.
#pragma once

#include <algorithm>
#include <deque>
#include <utility>

#include "runtime/exec/side_stream.h"

namespace autospc::exec {

class LateStream : public SideStream {
 public:
  Result<int64_t> Begin(const std::function<Status()>& work) override {
    pending_.emplace_back(++last_, work);
    most_ = std::max(most_, pending_.size());
    return last_;
  }
  Status Join(int64_t ticket) override {
    while (!pending_.empty() && pending_.front().first <= ticket) {
      const auto work = std::move(pending_.front().second);
      pending_.pop_front();
      RETURN_IF_ERROR(work());
    }
    return Ok();
  }

  size_t pending() const { return pending_.size(); }
  size_t most() const { return most_; }  // that were pending at a time

 private:
  int64_t last_ = 0;
  size_t most_ = 0;
  std::deque<std::pair<int64_t, std::function<Status()>>> pending_;
};

}  // namespace autospc::exec
