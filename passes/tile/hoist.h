// Selections of rows are moved before the row-wise ops that make many columns of few: logits[:, :-1] of a projection
// becomes the projection of hidden[:, :-1]. What comes after them can then be tiled together with the projection.
#pragma once

#include "passes/ir/graph.h"

namespace autospc::tile {

// A selection is a slice of step 1 along the rows, or autosp.pad_last, its form over sharded rows. It moves past an op
// whose result nothing else uses, as long as the rows it selects from get fewer bytes, or as few through a view. How
// many steps were made.
int HoistRowSelections(ir::Graph& graph);

}  // namespace autospc::tile
