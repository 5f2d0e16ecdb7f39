// Where storages may begin in an arena.
#pragma once

#include <cstdint>

namespace autospc {

inline constexpr int64_t kAlignment = 64;  // bytes: a cache line, and the widest vectors

// Bytes rounded up to it.
inline constexpr int64_t Aligned(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace autospc
