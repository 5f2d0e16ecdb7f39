// The cheapest choice between saving and recomputing at a given price of memory, exactly.
#pragma once

#include <vector>

#include "passes/recompute/problem.h"

namespace autospc::recompute {

struct Cut {
  std::vector<bool> keep;   // by store: saved for the backward pass if that needs it
  double bytes = 0;         // saved
  double seconds = 0;       // of what runs again, once each
};

// Minimises seconds + price * bytes over all choices in which the backward pass has what it reads, saved or made
// again from what is saved, each item at most once. As a minimum cut: a vertex "storage s is had in the backward
// pass" and one "item n runs again"; s without its n costs price * bytes(s), n costs its seconds and has all that it
// reads. `price` in seconds a byte; infinity: as few bytes as possible, then as few seconds.
// (Boost.Graph's Boykov-Kolmogorov maximum flow; the formulation of PyTorch's min_cut_rematerialization_partition,
// with time in the cut instead of a list of forbidden ops.)
Cut MinCut(const Problem& problem, double price);

// The lower hull of (bytes, seconds) over all prices, from keeping all to keeping least: at most `most` cuts, which
// split the hull where the bytes of neighbours have the largest ratio (Eisner and Severance's method).
std::vector<Cut> SweepPrices(const Problem& problem, int most);

}  // namespace autospc::recompute
