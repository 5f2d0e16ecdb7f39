#include "passes/ir/placement.h"

#include <fmt/format.h>

namespace autospc::ir {

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
