// Candidate programs along the curve of time against memory, none of which depends on a budget.
#pragma once

#include <string>
#include <vector>

#include "passes/ir/graph.h"
#include "passes/recompute/problem.h"
#include "passes/recompute/schedule.h"

namespace autospc::recompute {

struct Candidate {
  std::string label;  // a rule's name, or "price 0.25 s/GiB, limit 1.5 GiB"
  Schedule schedule;
};

// `rule` "auto": the rules of others, the corners of the price sweep, and each of these improved at a grid of limits
// between the lowest peak found and that of saving all; what another beats in both time and peak is left out, but for
// the rules. Else that one rule alone. By rising seconds; ties by falling peak, then as made. The number of limits and
// moves falls with the graph's size, so that an 8B model's candidates take a fraction of a second.
std::vector<Candidate> FindCandidates(const ir::Graph& graph, const Problem& problem, const std::string& rule);

}  // namespace autospc::recompute
