// Predicates over tiles of the score matrix: what attention can skip, what it need not mask, and the mask of the
// rest, row by row. Positions are global; a tile is [q0, q1) x [k0, k1), both non-empty.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "runtime/base/predicate.h"

namespace autospc::exec {

// A predicate's vector for one batch row; `stride` in elements.
struct PositionVector {
  const void* data = nullptr;
  bool is_bool = false;  // one byte an element; otherwise int64
  int64_t stride = 1;

  int64_t operator[](int64_t position) const {
    return is_bool ? static_cast<const uint8_t*>(data)[position * stride] != 0
                   : static_cast<const int64_t*>(data)[position * stride];
  }
};
using PositionVectors = std::span<const PositionVector>;

struct Interval {
  int64_t begin = 0, end = 0;  // half open
  bool empty() const { return begin >= end; }
  bool operator==(const Interval&) const = default;
};

enum class TileKind : uint8_t { kNone, kAll, kMixed };

// kNone: no pair of the tile is allowed; kAll: each is; kMixed: unknown. By interval arithmetic, so a tile of an
// and/or may be called mixed though it is not.
TileKind ClassifyTile(const Predicate& predicate, Interval q, Interval k, PositionVectors vectors);

// A part of `k` that holds every key allowed for any query of `q`; empty only if there is none.
Interval AllowedHull(const Predicate& predicate, Interval q, Interval k, PositionVectors vectors);

// The keys of `k` allowed for query q where they are known to be one interval (possibly empty).
std::optional<Interval> AllowedInterval(const Predicate& predicate, int64_t q, Interval k, PositionVectors vectors);

// allowed[j] = 1 where query q may see key k.begin + j, else 0. `k` holds at most kAttentionKeyTile keys.
void AllowedRow(const Predicate& predicate, int64_t q, Interval k, PositionVectors vectors, uint8_t* allowed);

}  // namespace autospc::exec
