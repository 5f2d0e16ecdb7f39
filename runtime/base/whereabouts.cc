#include "runtime/base/whereabouts.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

namespace autospc {
namespace {

// The page of an inherited descriptor, or nullptr if it is none of ours.
Whereabouts* Inherited() {
  const char* text = std::getenv("AUTOSP_WHEREABOUTS_FD");
  if (text == nullptr) return nullptr;
  const int fd = std::atoi(text);
  struct stat status {};
  if (fd <= STDERR_FILENO || fstat(fd, &status) != 0 || status.st_size != sizeof(Whereabouts)) return nullptr;
  void* page = mmap(nullptr, sizeof(Whereabouts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  return page == MAP_FAILED ? nullptr : static_cast<Whereabouts*>(page);
}

template <typename Enum>
Enum Clamped(int32_t value, Enum last) {
  return static_cast<Enum>(std::clamp<int32_t>(value, 0, static_cast<int32_t>(last)));
}

}  // namespace

Place Whereabouts::Read() const {
  Place place;
  place.activity = Clamped(activity.load(std::memory_order_relaxed), Activity::kEnding);
  place.collective = Clamped(collective.load(std::memory_order_relaxed), CollectiveKind::kBarrier);
  place.step = step.load(std::memory_order_relaxed);
  place.instruction = instruction.load(std::memory_order_relaxed);
  return place;
}

Whereabouts& MyWhereabouts() {
  // Never destroyed: threads may write while the process ends.
  static Whereabouts* mine = [] {
    Whereabouts* shared = Inherited();
    return shared != nullptr ? shared : new Whereabouts;
  }();
  return *mine;
}

Result<SharedWhereabouts> SharedWhereabouts::Create() {
  const int fd = memfd_create("autosp-whereabouts", MFD_CLOEXEC);
  void* page = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, sizeof(Whereabouts)) == 0)
    page = mmap(nullptr, sizeof(Whereabouts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (page == MAP_FAILED) {
    const Error error{Code::kFailed, fmt::format("no page to share with a rank: {}", std::strerror(errno)), "", ""};
    if (fd >= 0) close(fd);
    return error;
  }
  return SharedWhereabouts(fd, new (page) Whereabouts);
}

SharedWhereabouts::~SharedWhereabouts() {
  if (page_ != nullptr) munmap(page_, sizeof(Whereabouts));
  if (fd_ >= 0) close(fd_);
}

std::string ToString(CollectiveKind kind) {
  constexpr std::array<const char*, 7> kNames = {
      "", "all-gather", "all-to-all", "all-reduce", "reduce-scatter", "broadcast", "barrier"};
  return kNames[static_cast<size_t>(kind)];
}

std::string Describe(const Place& place, const std::string& instruction) {
  constexpr std::array<const char*, 7> kNames = {
      "starting", "meeting its peers", "loading", "", "writing a checkpoint", "evaluating", "ending"};
  std::string text = kNames[static_cast<size_t>(place.activity)];
  const auto add = [&](const std::string& more) {
    if (!text.empty() && !more.empty()) text += ", ";
    text += more;
  };
  if (place.step > 0) add(fmt::format("step {}", place.step));
  if (place.instruction >= 0) add(instruction.empty() ? fmt::format("instruction {}", place.instruction) : instruction);
  if (place.collective != CollectiveKind::kNone) add("in " + ToString(place.collective));
  return text.empty() ? "between two steps" : text;
}

}  // namespace autospc
