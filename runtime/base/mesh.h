// The ranks as a mesh of two axes: the sequence is split along "sp", the batch along "dp". Rank r has place r / sp on dp
// and r % sp on sp, so that ranks which share a sequence are neighbours (on one machine, as a rule). "world" names both
// axes together: all ranks.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc {

enum class Axis : uint8_t { kSp, kDp, kWorld };

std::string_view Name(Axis axis);                         // "sp", "dp", "world"
std::optional<Axis> ParseAxis(std::string_view name);     // nullopt: no axis
// Whether a collective over `of` also runs over `axis`.
inline bool Covers(Axis of, Axis axis) { return of == axis || of == Axis::kWorld; }

struct Mesh {
  int sp = 1;
  int dp = 1;

  // A plain number of ranks splits the sequence alone.
  Mesh(int sp_ranks = 1, int dp_ranks = 1) : sp(sp_ranks), dp(dp_ranks) {}
  int ranks() const { return sp * dp; }
  // Ranks of a group along the axis, and a rank's place in it.
  int Size(Axis axis) const { return axis == Axis::kSp ? sp : axis == Axis::kDp ? dp : ranks(); }
  int Index(Axis axis, int rank) const { return axis == Axis::kSp ? rank % sp : axis == Axis::kDp ? rank / sp : rank; }
  bool operator==(const Mesh&) const = default;
};

// "dp=2,sp=4", in any order; an axis left out has one rank. kUsage: another axis, a size below 1, or one named twice.
Result<Mesh> ParseMesh(std::string_view text);

// Ops of our own that act along one axis carry its name as their last argument, left out where it is "sp". The position
// of that argument; nullopt: the op has none.
std::optional<size_t> AxisArgument(std::string_view op);
// The axis along which an op acts where its arguments name none: the world for ZeRO's blocks, else sp.
Axis UsualAxis(std::string_view op);

}  // namespace autospc
