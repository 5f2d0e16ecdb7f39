// Whether the sizes that a graph records are those that LibTorch makes: passes divide and index by them, and a graph
// that came from anywhere may record others.
#pragma once

#include "passes/ir/graph.h"

namespace autospc::autodiff {

// What becomes of a call that LibTorch refuses. An export may hold some that passes remove (what asks for a value, on a
// meta tensor); a graph that somebody wrote has none.
enum class Refused : uint8_t { kPassedOver, kAnError };

// Calls each node on meta tensors of its operands' recorded sizes; nodes with sizes that are not bound are passed over,
// and so are ops without a rule on meta tensors. kBadInput: a result that somebody reads has other sizes, or there are
// more or fewer of them. Names the node and its source. Expects nodes with the arguments of their schemas.
Status CheckShapes(const ir::Graph& graph, Refused refused);

}  // namespace autospc::autodiff
