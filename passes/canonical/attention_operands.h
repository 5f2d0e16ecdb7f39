// Brings the operands of an attention, however laid out, to [B, H, S, D].
#pragma once

#include <optional>
#include <vector>

#include "passes/canonical/match.h"

namespace autospc::canonical {

// One operand as traced back through transposes, reshapes that merge B and H, copies and constant factors.
struct HeadsOperand {
  ValueId value = kNoValue;
  bool transposed = false;     // the value is [..., D, S]
  double scale = 1;            // a constant factor left out of `value`
  std::vector<int64_t> sizes;  // of the operand once it is [B, H, S, D]
};

// Traces `v` ([..., S, D], or [..., D, S] if transposed). With `peel_scale`, constant factors are left out. A
// widening cast from `type` is, too.
HeadsOperand TraceOperand(const Graph& graph, ValueId v, bool transposed, bool peel_scale, DType type);

// Gives all three one B; false if their sizes are none of attention's.
bool AgreeOnSizes(const Graph& graph, HeadsOperand* q, HeadsOperand* k, HeadsOperand* v);

// Emits what makes the operand [B, H, S, D], before `before`.
ValueId EmitOperand(Graph& graph, const HeadsOperand& operand, NodeId before, const Node& like);

// Emits a permutation unless it is the identity.
ValueId EmitPermute(Graph& graph, ValueId v, const std::vector<int64_t>& order, NodeId before, const Node& like);
ValueId EmitReshape(Graph& graph, ValueId v, const std::vector<int64_t>& sizes, NodeId before, const Node& like);
ValueId EmitExpand(Graph& graph, ValueId v, const std::vector<int64_t>& sizes, NodeId before, const Node& like);

}  // namespace autospc::canonical
