// Which dim of each value is the sequence, and which ops treat its rows one by one: what may be tiled along it.
//
// Works on local shapes, after partitioning. A sharded value's rows are in its placement; elsewhere (one rank, or
// values that every rank computes whole) they are followed from the inputs and the gathers through the factor rules of
// passes/partition. Rows found wrongly or not at all cost memory, never a wrong number: an op is taken apart only by
// its own factor rule.
#pragma once

#include <optional>
#include <vector>

#include "passes/ir/graph.h"

namespace autospc::tile {

// Where the rows of a value lie: dim `dim` is outer * block * inner long and the rows are its middle factor, as in
// ir::Placement with valid == block.
using Rows = ir::Placement;

// An op that may run on some of the rows at a time.
struct RowOp {
  std::vector<std::optional<Rows>> operands;  // in the order of Node::Operands(); nullopt: needed whole by each tile
  std::vector<std::optional<Rows>> results;   // nullopt: a sum over rows, the tiles' results are added up
  int64_t block = 0;                          // rows
};

class RowAnalysis {
 public:
  explicit RowAnalysis(const ir::Graph& graph);

  // nullopt: the value has no rows that are known.
  const std::optional<Rows>& rows(ir::ValueId v) const { return rows_[v]; }
  // nullptr: the op mixes rows, depends on their position, or has none.
  const RowOp* op(ir::NodeId id) const { return ops_[id] ? &*ops_[id] : nullptr; }
  // Whether the operand is taken as its producer makes it: the same rows of the same dim.
  bool SameRows(const ir::Node& node, size_t operand) const;

 private:
  std::optional<RowOp> Analyse(const ir::Node& node) const;
  void Follow(const ir::Node& node);  // an op that ends a region: where its results' rows lie

  const ir::Graph& graph_;
  std::vector<std::optional<Rows>> rows_;  // by value
  std::vector<std::optional<RowOp>> ops_;  // by node
};

}  // namespace autospc::tile
