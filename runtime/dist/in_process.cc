#include "runtime/dist/in_process.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include <condition_variable>
#include <exception>
#include <mutex>

#include "runtime/dist/device_memory.h"

namespace autospc {
namespace {

// Where the ranks meet. A generation ends when all have arrived.
class InProcessMeeting {
 public:
  explicit InProcessMeeting(int size) : pieces_(size) {}

  Status Arrive() {
    std::unique_lock lock(mutex_);
    const int64_t mine = generation_;
    if (++arrived_ == static_cast<int>(pieces_.size())) {
      arrived_ = 0;
      ++generation_;
      changed_.notify_all();
    } else {
      changed_.wait(lock, [&] { return aborted_ || generation_ != mine; });
    }
    if (aborted_) return Error{Code::kInterrupted, "the collective was aborted by another rank", "", ""};
    return Ok();
  }

  void Abort() {
    std::lock_guard lock(mutex_);
    aborted_ = true;
    changed_.notify_all();
  }

  std::vector<const void*>& pieces() { return pieces_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<const void*> pieces_;  // each rank's array of pieces
  int64_t generation_ = 0;
  int arrived_ = 0;
  bool aborted_ = false;
};

class InProcessCommunicator : public Communicator {
 public:
  InProcessCommunicator(int rank, int size, std::shared_ptr<InProcessMeeting> meeting, std::optional<c10::Device> device)
      : Communicator(rank, size, device.value_or(c10::Device(c10::DeviceType::CPU))), meeting_(std::move(meeting)) {
    if (device) memory_.emplace(*device);
  }

  void Abort() override { meeting_->Abort(); }
  Status Wait() override {
    if (device().is_cpu()) return Ok();
    try {
      c10::impl::VirtualGuardImpl(device().type()).synchronizeDevice(device().index());
    } catch (const std::exception& e) {
      return Error{Code::kFailed, fmt::format("{} failed: {}", device().str(), e.what()), "", ""};
    }
    return Ok();
  }

 protected:
  Status Exchange(const Piece* pieces) override {
    meeting_->pieces()[rank()] = pieces;
    RETURN_IF_ERROR(meeting_->Arrive());
    Status status = Ok();
    for (int r = 0; r < size(); ++r) {
      if (r == rank()) continue;
      const Piece& theirs = static_cast<const Piece*>(meeting_->pieces()[r])[rank()];
      if (theirs.send_bytes != pieces[r].recv_bytes) {
        status = Error{Code::kFailed,
                       fmt::format("rank {} sends {} bytes where rank {} expects {}", r, theirs.send_bytes, rank(),
                                   pieces[r].recv_bytes),
                       "", "the ranks run different programs"};
        break;
      }
      if (theirs.send_bytes == 0) continue;
      status = Copy(pieces[r].recv, theirs.send, theirs.send_bytes);
      if (!status.ok()) break;
    }
    if (!status.ok()) Abort();
    Status arrived = meeting_->Arrive();
    return status.ok() ? arrived : status;
  }

  Status Copy(void* to, const void* from, int64_t bytes) override {
    return memory_ ? memory_->Copy(to, from, bytes) : Communicator::Copy(to, from, bytes);
  }
  Status Reduce(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op) override {
    return memory_ ? memory_->Reduce(rows, out, count, n, type, op)
                   : Communicator::Reduce(rows, out, count, n, type, op);
  }
  Status Meet() override {
    RETURN_IF_ERROR(Wait());
    return meeting_->Arrive();
  }

 private:
  std::shared_ptr<InProcessMeeting> meeting_;
  std::optional<DeviceMemory> memory_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeInProcessCommunicators(int size, std::optional<c10::Device> device) {
  auto meeting = std::make_shared<InProcessMeeting>(size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int r = 0; r < size; ++r) {
    ranks.push_back(std::make_unique<InProcessCommunicator>(r, size, meeting, device));
  }
  return ranks;
}

}  // namespace autospc
