#include "runtime/dist/gloo.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>

#include <chrono>
#include <mutex>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <vector>

namespace autospc {
namespace {

// A step may last minutes, so a collective has no short limit of its own: the watchdog tells a rank that computes from
// one that is gone or stands still, and aborts what waits for the latter.
constexpr auto kTimeout = std::chrono::hours(24);

Error GlooFailure(const std::exception& e, const char* what) {
  std::string message = e.what();
  message = message.substr(0, message.find('\n'));
  const bool timeout = message.find("imed out") != std::string::npos;
  return Error{timeout ? Code::kTimeout : Code::kPeerFailed, fmt::format("{}: {}", what, message), "",
               "look at the first rank that failed"};
}

class GlooCommunicator : public Communicator {
 public:
  GlooCommunicator(int rank, int size, c10::intrusive_ptr<c10d::ProcessGroupGloo> group)
      : Communicator(rank, size), group_(std::move(group)) {}

  void Abort() override {
    std::lock_guard lock(mutex_);
    AbortLocked();
  }

 protected:
  // Sends and receives run together: with a fresh tag for each exchange messages cannot be mistaken.
  Status Exchange(const Piece* pieces) override {
    tag_ = (tag_ + 1) & 0x3fffffff;
    try {
      for (int step = 1; step < size(); ++step) {
        const int from = (rank() - step + size()) % size();
        if (pieces[from].recv_bytes == 0) continue;
        std::vector<at::Tensor> buffer = {Bytes(pieces[from].recv, pieces[from].recv_bytes)};
        Begin([&] { return group_->recv(buffer, from, tag_); });
      }
      for (int step = 1; step < size(); ++step) {
        const int to = (rank() + step) % size();
        if (pieces[to].send_bytes == 0) continue;
        std::vector<at::Tensor> buffer = {Bytes(const_cast<void*>(pieces[to].send), pieces[to].send_bytes)};
        Begin([&] { return group_->send(buffer, to, tag_); });
      }
      // Only this thread changes the list, so it may read it without the lock.
      for (const auto& work : works_) work->wait();
    } catch (const std::exception& e) {
      return Failed(e);
    }
    std::lock_guard lock(mutex_);
    works_.clear();
    if (aborted_) return Interrupted();
    return Ok();
  }

 private:
  static at::Tensor Bytes(void* data, int64_t bytes) {
    return at::from_blob(data, {bytes}, at::TensorOptions().dtype(at::kByte));
  }

  template <typename Start>
  void Begin(const Start& start) {
    std::lock_guard lock(mutex_);
    if (!aborted_) works_.push_back(start());
  }

  static Error Interrupted() { return Error{Code::kInterrupted, "the collective was given up", "", ""}; }

  // What has begun still reads and writes the caller's buffers: it is ended before the call returns.
  Error Failed(const std::exception& e) {
    std::lock_guard lock(mutex_);
    const bool interrupted = aborted_;
    AbortLocked();
    works_.clear();
    return interrupted ? Interrupted() : GlooFailure(e, "a collective failed");
  }

  void AbortLocked() {
    aborted_ = true;
    for (const auto& work : works_) {
      try {
        work->abort();
      } catch (const std::exception&) {
        // Its connection is closed: it waits no more.
      }
    }
  }

  c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  int tag_ = 0;
  std::mutex mutex_;  // of what Abort() touches
  std::vector<c10::intrusive_ptr<c10d::Work>> works_;
  bool aborted_ = false;
};

}  // namespace

Result<std::unique_ptr<Communicator>> MakeGlooCommunicator(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                                           int size, const std::string& address) {
  try {
    auto options = c10d::ProcessGroupGloo::Options::create(kTimeout);
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
    options->threads = 1;
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
    return std::unique_ptr<Communicator>(std::make_unique<GlooCommunicator>(rank, size, std::move(group)));
  } catch (const std::exception& e) {
    return GlooFailure(e, "the ranks could not be connected");
  }
}

}  // namespace autospc
