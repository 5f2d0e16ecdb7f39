// Where a rank of a job is: what it does, in which step, instruction and collective. One page of numbers that the
// rank's threads write and read, shared with the launcher that started it, which reads them also when the rank is
// stopped or gone. Each number is written alone, so a reader may see a step's number beside the next one's instruction.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <utility>

#include "runtime/base/result.h"

namespace autospc {

enum class Activity : int32_t { kStarting, kMeeting, kLoading, kStepping, kSaving, kEvaluating, kEnding };
enum class CollectiveKind : int32_t { kNone, kAllGather, kAllToAll, kAllReduce, kReduceScatter, kBroadcast, kBarrier };

// A consistent enough copy, as it travels between ranks.
struct Place {
  Activity activity = Activity::kStarting;
  CollectiveKind collective = CollectiveKind::kNone;
  int64_t step = 0;          // from 1; 0: before the first
  int32_t instruction = -1;  // of the program; -1: between two of them
};

struct Whereabouts {
  std::atomic<int32_t> activity{0};
  std::atomic<int32_t> collective{0};
  std::atomic<int64_t> step{0};
  std::atomic<int32_t> instruction{-1};
  std::atomic<int32_t> watched{0};  // 1 while a thread of the rank raises `beats`, 2 when it has ended
  std::atomic<int64_t> beats{0};
  std::atomic<int32_t> blamed{-1};  // the rank that failed first, as this one learnt it, and the code it failed with
  std::atomic<int32_t> blamed_code{0};

  void Set(Activity now) { activity.store(static_cast<int32_t>(now), std::memory_order_relaxed); }
  Place Read() const;
};
static_assert(std::atomic<int64_t>::is_always_lock_free && std::atomic<int32_t>::is_always_lock_free);

// This process's own: the page that the launcher shares if AUTOSP_WHEREABOUTS_FD names it, else private memory.
Whereabouts& MyWhereabouts();

// A page for a rank that is about to be started, which inherits fd() and finds it by AUTOSP_WHEREABOUTS_FD.
class SharedWhereabouts {
 public:
  static Result<SharedWhereabouts> Create();
  SharedWhereabouts(SharedWhereabouts&& other) noexcept
      : fd_(std::exchange(other.fd_, -1)), page_(std::exchange(other.page_, nullptr)) {}
  SharedWhereabouts& operator=(SharedWhereabouts&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(page_, other.page_);
    return *this;
  }
  ~SharedWhereabouts();

  int fd() const { return fd_; }  // closed by exec unless the child clears FD_CLOEXEC
  const Whereabouts& operator*() const { return *page_; }
  const Whereabouts* operator->() const { return page_; }

 private:
  SharedWhereabouts(int fd, Whereabouts* page) : fd_(fd), page_(page) {}
  int fd_ = -1;
  Whereabouts* page_ = nullptr;
};

// "all-to-all"; "" for kNone.
std::string ToString(CollectiveKind kind);
// "step 12, all-to-all", "loading": what is known without the program. `instruction` is its description, or empty.
std::string Describe(const Place& place, const std::string& instruction);

}  // namespace autospc
