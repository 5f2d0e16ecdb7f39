// Regions of a forward graph that are pointwise along the sequence and wide inside: what pays when it is run tile by
// tile (vocabulary projection with its loss, an MLP, scores of attention that is written by hand, chains of elementwise
// ops).
//
// Regions are found from shapes and factor rules, never from names. What mixes rows (attention, collectives, shifts)
// separates the graph into stages; within a stage the widest values are taken in turn and the narrowest ends around
// them are found by minimum cut (cut.h).
#pragma once

#include <cstdint>
#include <vector>

#include "passes/ir/graph.h"
#include "passes/tile/rows.h"

namespace autospc::tile {

struct Region {
  std::vector<ir::NodeId> nodes;  // in order of execution; no path leaves them and comes back
  int64_t block = 0;              // rows of this rank
  // Bytes on this rank: of the inner values that a backward pass keeps (at least twice the widest); of the widest; of
  // the ends, i.e. values with rows that go in or out and so exist whole.
  int64_t inner_bytes = 0;
  int64_t widest_bytes = 0;
  int64_t end_bytes = 0;
};

// Disjoint; by inner bytes, the most first. Sizes must be bound. `narrow`: also those that are narrower inside than at
// their ends, which nobody gains by (tests tile all that can be).
std::vector<Region> FindRegions(const ir::Graph& graph, bool narrow = false);

}  // namespace autospc::tile
