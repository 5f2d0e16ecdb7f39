// A region between two narrow cuts of a directed acyclic graph: minimum cuts by maximum flow.
//
// Every node lies before the region, in it or after it, in the order of the edges, so no path leaves the region and
// comes back. A value costs its weight where it is handed in (made before, used in or after the region), and again
// where it is handed out (made before or in the region, used after it). Both sums are smallest, and among such regions
// this is the largest. (Source: two nested cuts of one submodular function; J. Picard, "Maximal closure of a graph",
// 1976. Maximum flow: Dinic.)
#pragma once

#include <cstdint>
#include <vector>

namespace autospc::tile {

struct CutValue {
  int producer = -1;           // a node, or -1: made before all of them
  std::vector<int> consumers;  // nodes
  bool used_after = false;     // also by what comes after all of them
  int64_t weight = 0;
};

// Which of `nodes` nodes are in the region; those of `inside` are.
std::vector<bool> NarrowestRegion(int nodes, const std::vector<CutValue>& values, const std::vector<int>& inside);

}  // namespace autospc::tile
