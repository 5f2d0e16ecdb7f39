// A position table (learned positions, RoPE caches, mask buffers) has as many rows as its model was made for. An
// export's range does not always say so: looked up or sliced past its end, it fails at run time.
#pragma once

#include "passes/ir/graph.h"
#include "runtime/base/result.h"

namespace autospc::import {

// `graph` has constant sizes. kBadInput, naming the table, its rows and the source line, where positions counted by
// arange (through casts, shape ops, constants added; or a cumulative sum of ones) index past a table's last row, or a
// slice's recorded size is more than its operand holds.
Status CheckPositionTables(const ir::Graph& graph);

}  // namespace autospc::import
