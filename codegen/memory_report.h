// What a program's memory is made of, for `inspect`.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "runtime/package/program_generated.h"

namespace autospc::codegen {

// By program::StorageKind, for people and as keys of JSON.
inline constexpr std::array<const char*, 9> kKindNames = {"weights",   "buffers",     "constants", "inputs",       "optimizer",
                                                          "gradients", "activations", "workspace", "communication"};

struct MemoryReport {
  // Bytes by program::StorageKind: persistent kinds whole, those of the arena as they are alive at the peak.
  std::array<int64_t, 9> by_kind{};
  int64_t persistent_bytes = 0;  // the sum of the persistent kinds
  int64_t arena_bytes = 0;       // the planned arena; at least live_bytes
  int64_t live_bytes = 0;        // alive at the peak, rounded to 64 each
  int peak_instruction = -1;     // the first at which live_bytes are alive; -1: the arena is empty
  std::vector<int> largest;      // storages of the arena by size, at most as many as asked for; ties by index
  std::vector<int> at_peak;      // the same of those alive at the peak

  int64_t total_bytes() const { return persistent_bytes + arena_bytes; }  // what a budget is held against
};

MemoryReport ReportMemory(const program::ProgramT& program, int count = 10);

}  // namespace autospc::codegen
