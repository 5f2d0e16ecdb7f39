#include "passes/ir/placement.h"

#include <fmt/format.h>

namespace autospc::ir {

Placement Placement::Within(const Placement& other) const {
  Placement p = *this;
  if (!is_sharded() || !other.is_sharded() || dim != other.dim) return p;
  const bool other_inside = other.outer % (outer * block) == 0 && inner % (other.valid * other.inner) == 0;
  if (other_inside) {
    p.inner = inner / other.valid * other.block;
  } else {
    p.outer = outer / other.valid * other.block;
  }
  return p;
}

std::string Placement::ToString() const {
  switch (kind) {
    case PlacementKind::kNone: return "";
    case PlacementKind::kReplicated: return "R";
    case PlacementKind::kVarying: return "V";
    case PlacementKind::kPartial: return "P";
    case PlacementKind::kSharded:
      return fmt::format("S(dim={}, valid={}, block={}, outer={}, inner={})", dim, valid, block, outer, inner);
  }
  return "";
}

}  // namespace autospc::ir
