// Products that are only added to a running sum are computed into it: add(sum, mm(a, b)) becomes addmm(sum, a, b),
// which runs in place on the sum. So the gradients that the tiles of a region (or the uses of a tied weight) have of
// one weight need no second buffer of the weight's size.
#pragma once

#include "passes/ir/graph.h"

namespace autospc::tile {

// On a differentiated graph (values with strides and bases). How many products were taken in.
int AccumulateProducts(ir::Graph& graph);

}  // namespace autospc::tile
