// A schedule as a graph: repetitions become nodes of their own.
#pragma once

#include "passes/ir/graph.h"
#include "passes/recompute/problem.h"
#include "passes/recompute/schedule.h"

namespace autospc::recompute {

// `graph` is the one that `problem` describes. Nodes stand in the schedule's order; a repetition keeps op, arguments,
// source, module and phase, its results have the names of the first run's with a suffix. Views of a repeated storage
// are made anew where they are read.
ir::Graph Materialise(const ir::Graph& graph, const Problem& problem, const Schedule& schedule);

}  // namespace autospc::recompute
