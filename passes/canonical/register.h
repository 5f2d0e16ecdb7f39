// The canonical passes: an imported graph, sizes bound, becomes functional, with attention as one op over
// a predicate and positions as aranges. Each pass also runs alone (autospc-opt).
#pragma once

#include <string>
#include <vector>

#include "passes/framework/pass.h"

namespace autospc {

void RegisterCanonicalPasses(PassRegistry& registry);

// Their names in the order in which a compilation runs them.
const std::vector<std::string>& CanonicalPipeline();

namespace canonical {

// No in-place op is left; writes through views become scatters; a write that reaches a buffer becomes a
// kBufferUpdate output. kUnsupported for a write that has no functional form here.
Result<bool> Functionalise(ir::Graph& graph, PassContext& context);

// Casts to the same type, full slices, expands to the same sizes, dropout that drops nothing, x + 0 and
// x * 1, detach of what has no gradient: gone, with whatever is dead. Views become reshapes.
Result<bool> Simplify(ir::Graph& graph, PassContext& context);

// Integer values that are affine in one index, however computed, become one arange and views.
Result<bool> FoldIntegers(ir::Graph& graph, PassContext& context);

// scaled_dot_product_attention and its hand-written forms become autosp.attention where the mask is a
// predicate; what is left of scaled_dot_product_attention is written out and noted with its bytes.
Result<bool> RecogniseAttention(ir::Graph& graph, PassContext& context);

// Keys and values that autosp.attention reads repeated over heads are read unrepeated.
Result<bool> UndoRepeatKv(ir::Graph& graph, PassContext& context);

}  // namespace canonical
}  // namespace autospc
