// Copies of row-wise ops for another number of rows.
#pragma once

#include <vector>

#include "passes/tile/rows.h"

namespace autospc::tile {

// Rows of each rank, and how many of all ranks' are no padding.
struct RowCount {
  int64_t length = 0;
  int64_t valid = 0;
};

// `v`'s sizes and placement with that many rows. A placement that is not sharded stays what it is.
std::vector<int64_t> SizesWith(const ir::Graph& graph, ir::ValueId v, const Rows& rows, const RowCount& count);
ir::Placement PlacementWith(const ir::Graph& graph, ir::ValueId v, const Rows& rows, const RowCount& count);

// A copy of the node before `before` that takes `operands` (as Node::Operands(), those with rows having `count` of
// them); its results. Size arguments follow from the results' sizes. Means over rows are copied as sums.
std::vector<ir::ValueId> CloneWith(ir::Graph& graph, ir::NodeId id, const RowOp& op,
                                   const std::vector<ir::ValueId>& operands, const RowCount& count, ir::NodeId before);

// Ops whose result shares their operand's storage.
bool IsView(const ir::Node& node);
// A loss that adds up over its rows (cross_entropy_loss), and anything that takes a mean over them.
bool IsLoss(const ir::Node& node);
bool IsMean(const ir::Node& node);

}  // namespace autospc::tile
