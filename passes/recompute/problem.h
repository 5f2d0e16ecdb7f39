// What the choice between saving and recomputing sees of a joint graph: instructions, storages, bytes and seconds.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "passes/ir/graph.h"
#include "passes/memory/op_traits.h"
#include "passes/recompute/cost.h"

namespace autospc::recompute {

// One instruction of the graph (memory/storage.h says what is one).
struct Item {
  ir::NodeId node = ir::kNoNode;
  std::vector<int> reads;    // storages of the arena, each once
  std::vector<int> makes;    // storages that it writes first
  // Pairs (index in makes, index in reads): the result may lie over that operand where the operand dies here.
  std::vector<std::pair<int, int>> in_place;
  int64_t scratch = 0;       // bytes, workspace and staging
  double seconds = 0;        // estimated
  bool repeatable = false;   // may run again: reads and makes alone, and belongs to the forward pass
  int before = 0;            // a repetition must stand before this item, which overwrites something that it reads
};

// A storage of the arena.
struct Store {
  int64_t bytes = 0;         // rounded up to the arena's alignment
  int maker = -1;            // item
  bool fixed = false;        // an output, or written again later: stays as it is
  ir::ValueId value = ir::kNoValue;
};

struct Problem {
  std::vector<Item> items;   // in the graph's order
  std::vector<Store> stores;
  std::vector<std::pair<int, int>> hazards;  // item before item: what one reads or writes, the other overwrites
  int backward = 0;          // the first item behind the forward pass; items.size() if there is none
  int64_t persistent_bytes = 0;  // parameters, buffers, constants, inputs, optimiser states
};

// The graph must be differentiated and bound, as for the memory planner. Both functions may be empty.
Problem Describe(const ir::Graph& graph, const memory::OpTraitsFn& traits, const CostFn& cost);

}  // namespace autospc::recompute
