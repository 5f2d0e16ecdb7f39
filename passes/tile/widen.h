// Sums of 16-bit gradients in float32. Autograd adds up what the tiles of a region (or the uses of a tied weight) give
// one weight in the weight's own type: with bfloat16, the n-th addend meets a sum n times as large that has eight bits.
// Here such a sum is kept in float32 until it is whole, and rounded once.
#pragma once

#include "passes/ir/graph.h"

namespace autospc::tile {

// On a differentiated graph, before AccumulateProducts: of each parameter's gradient, a sum of three addends or more in
// bfloat16 or float16 becomes one in float32 (mm and addmm with a float32 result, aten.mm.dtype and aten.addmm.dtype,
// where an addend is a product that nothing else reads). How many sums.
int WidenGradientSums(ir::Graph& graph);

}  // namespace autospc::tile
