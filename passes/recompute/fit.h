// The fastest candidate whose real plan fits.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

#include "passes/ir/graph.h"
#include "passes/memory/op_traits.h"
#include "passes/memory/storage.h"
#include "passes/recompute/choose.h"

namespace autospc::recompute {

// A joint graph in one of the forms that compete (its regions tiled or not), described, with its candidates.
struct Form {
  std::string label;  // "" for the plain one
  const ir::Graph* graph = nullptr;
  Problem problem;
  std::vector<Candidate> candidates;
  double all_saved_seconds = 0;  // no candidate is faster
};

// Which candidate of which form, and the graph that it is; peak_bytes as planned: persistent storages and the arena.
struct Choice {
  int form = -1, candidate = -1;
  ir::Graph graph;
  int64_t peak_bytes = 0;
  int64_t arena_bytes = 0;
  memory::MemoryPlan plan;  // of the graph
  bool fits = false;  // false: nothing does, and this is the smallest that was found
};

// The candidate as a graph, and its plan. Errors as of the planner.
Result<Choice> PlanCandidate(const std::deque<Form>& forms, int form, int candidate, const memory::OpTraitsFn& traits);

// No placement is below the bytes alive at once; the estimate of those may be a little off.
bool MayFit(const Form& form, const Candidate& candidate, int64_t budget);

// The candidate with the lowest plan, of the few with the lowest estimates.
Result<Choice> Smallest(const std::deque<Form>& forms, const memory::OpTraitsFn& traits);

// Candidates in order of estimated seconds, the first whose planned peak is at most `budget` bytes (0: no limit).
// Neither the candidates nor their order depend on the budget, so a lower budget never gives a higher peak. Where none
// fits, the smallest. Errors as of the planner.
Result<Choice> ChooseWithin(const std::deque<Form>& forms, int64_t budget, const memory::OpTraitsFn& traits);

}  // namespace autospc::recompute
