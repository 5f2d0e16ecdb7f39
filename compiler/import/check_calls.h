// Whether the nodes of a graph that people wrote call LibTorch's ops as its schemas say: passes go by them.
#pragma once

#include <string>
#include <vector>

#include "passes/ir/graph.h"

namespace autospc::import {

// Every violation, a line each, in the order of the graph: an op that LibTorch does not have, an argument that is left
// out (the IR has them all, defaults too), one too many or of another kind, and a number of results that it does not
// make. Of our own ops ir::Verify speaks. Expects an empty ir::Verify(graph).
std::vector<std::string> WrongCalls(const ir::Graph& graph);

}  // namespace autospc::import
