// Where a value lies on the ranks: the type system that keeps gradients right.
#pragma once

#include <cstdint>
#include <string>

namespace autospc::ir {

// R replicated: equal on all ranks, and so is its cotangent. V varying: a use of a replicated value,
// still equal on all ranks, whose cotangents are addends. P partial: the ranks' values are addends; its
// cotangent is equal on all ranks. S sharded on one dim. Cotangents are dual: R-R, S-S, P-V.
// kNone: before partitioning. (Source: shard_map's varying axes; openxla/shardy's factors.)
enum class PlacementKind : uint8_t { kNone, kReplicated, kVarying, kPartial, kSharded };

struct Placement {
  PlacementKind kind = PlacementKind::kNone;
  // kSharded only. Dim `dim` of the global value is outer * valid * inner long ([B, S] flattened to
  // [B*S] has outer = B, inner = 1); a rank holds outer * block * inner of it: rows
  // [rank * block, (rank + 1) * block) of the middle factor. Rows at or past `valid` are padding: in a
  // value they equal row valid - 1, in a cotangent they are zero.
  int dim = -1;
  int64_t outer = 1;
  int64_t inner = 1;
  int64_t valid = 0;
  int64_t block = 0;

  static Placement Replicated() { return {PlacementKind::kReplicated}; }
  static Placement Varying() { return {PlacementKind::kVarying}; }
  static Placement Partial() { return {PlacementKind::kPartial}; }
  static Placement Sharded(int dim, int64_t valid, int64_t block, int64_t outer = 1, int64_t inner = 1) {
    return {PlacementKind::kSharded, dim, outer, inner, valid, block};
  }

  bool is_none() const { return kind == PlacementKind::kNone; }
  bool is_replicated() const { return kind == PlacementKind::kReplicated; }
  bool is_varying() const { return kind == PlacementKind::kVarying; }
  bool is_partial() const { return kind == PlacementKind::kPartial; }
  bool is_sharded() const { return kind == PlacementKind::kSharded; }
  bool operator==(const Placement&) const = default;

  // This placement of a value that `other`, along another axis, splits too: where both are in one dim ([B, S]
  // flattened), outer or inner counts the other's block instead of its whole length.
  Placement Within(const Placement& other) const;

  // "" (none), "R", "V", "P", "S(dim=1, valid=61, block=31, outer=2, inner=1)".
  std::string ToString() const;
};

}  // namespace autospc::ir
