// The pass "mixed-precision".
#pragma once

#include "passes/framework/pass.h"

namespace autospc::precision {

// "mixed-precision": where context.dtype is "bf16", a functional float32 graph (behind the canonical passes, before
// partition) becomes one that computes in bfloat16 what policy.h allows, by explicit casts:
// - Parameters that are read in bfloat16 alone are bfloat16 inputs from then on: the optimiser keeps their float32
//   masters (passes/step), so nothing is cast in a step. A parameter with another use stays float32 and is cast.
// - Values that depend on no parameter and no float input (positions, rotary tables, masks) stay float32 among
//   themselves; each is rounded, or widens what it meets, where it meets an activation.
// - A pointwise op all of whose readers compute in float32 (a score before its softmax) does so itself.
// - Float32 inputs and buffers keep their type; the loss and buffers' new values are float32.
// kBadInput: the graph holds 16-bit floating-point values already.
void RegisterPrecisionPasses(PassRegistry& registry);

Result<bool> MixPrecision(ir::Graph& graph, PassContext& context);

}  // namespace autospc::precision
