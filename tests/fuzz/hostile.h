// A file cut off at every length and with bits turned, opened each time: what came of it, what it cost.
#pragma once

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <new>
#include <random>
#include <string>

#include "runtime/base/result.h"
#include "tests/fuzz/check.h"
#include "tests/package/temp_folder.h"

namespace autospc::fuzz {

// Bytes that `new` holds, and the most that it held since Reset. A program that includes this header counts all of its
// own; mapped files are not among them.
struct Heap {
  static inline std::atomic<int64_t> live{0}, peak{0};
  static void Reset() { peak = live.load(); }
  static void Add(int64_t bytes) {
    const int64_t now = live.fetch_add(bytes) + bytes;
    int64_t most = peak.load();
    while (now > most && !peak.compare_exchange_weak(most, now)) {
    }
  }
};

struct Outcome {
  int64_t tries = 0, accepted = 0;
  int64_t file_bytes = 0;
  int64_t peak_bytes = 0;  // the most that one opening took
  double slowest_ms = 0;
};

// Opens whatever `path` belongs to. An error must be kBadInput, or kUnsupported where bits make another op.
using Opener = std::function<Status()>;

inline void TryOnce(const Opener& open, Outcome* outcome) {
  const int64_t before = Heap::live.load();
  Heap::Reset();
  const auto start = std::chrono::steady_clock::now();
  {
    const Status opened = open();
    if (!opened.ok()) CheckError(opened.error(), {Code::kBadInput, Code::kUnsupported, Code::kUsage});
    outcome->accepted += opened.ok();
  }
  const double ms = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  outcome->slowest_ms = std::max(outcome->slowest_ms, ms);
  outcome->peak_bytes = std::max(outcome->peak_bytes, Heap::peak.load() - before);
  ++outcome->tries;
}

// At every `step`-th length from the whole file's down to none. The file is as before afterwards.
inline Outcome Truncations(const std::string& path, const Opener& open, int64_t step = 1) {
  const std::string content = Slurp(path);
  Outcome outcome;
  outcome.file_bytes = static_cast<int64_t>(content.size());
  for (int64_t length = outcome.file_bytes - 1; length >= 0; length -= step) {
    if (truncate(path.c_str(), length) != 0) Broken("a file can be cut off");
    TryOnce(open, &outcome);
  }
  Spill(path, content);
  return outcome;
}

// `count` times one to three bits turned, seeded.
inline Outcome Flips(const std::string& path, const Opener& open, int64_t count, unsigned seed) {
  const std::string content = Slurp(path);
  Outcome outcome;
  outcome.file_bytes = static_cast<int64_t>(content.size());
  std::mt19937 random(seed);
  for (int64_t i = 0; i < count && !content.empty(); ++i) {
    std::string changed = content;
    for (int64_t k = 0; k <= i % 3; ++k) changed[random() % changed.size()] ^= static_cast<char>(1 << random() % 8);
    Spill(path, changed);
    TryOnce(open, &outcome);
  }
  Spill(path, content);
  return outcome;
}

}  // namespace autospc::fuzz

// Counted by what malloc really gave.
void* operator new(size_t size) {
  void* data = std::malloc(size);
  if (data == nullptr) throw std::bad_alloc();
  autospc::fuzz::Heap::Add(static_cast<int64_t>(malloc_usable_size(data)));
  return data;
}
void operator delete(void* data) noexcept {
  if (data != nullptr) autospc::fuzz::Heap::live -= static_cast<int64_t>(malloc_usable_size(data));
  std::free(data);
}
void operator delete(void* data, size_t) noexcept { operator delete(data); }
