// An independent check of a memory plan: it shares no code with the planner and trusts none of its lifetimes.
// (Source of the idea: ExecuTorch's memory_planning.py verifies its own plans.)
#pragma once

#include <string>
#include <vector>

#include "passes/memory/storage.h"

namespace autospc::memory {

// Runs the graph over the plan's addresses and remembers, for each byte of the arena, which value's contents it
// holds. A violation is: an operand or output whose bytes another value or some scratch has taken; a node
// whose results and scratch overlap each other or an operand, other than a result exactly over an operand of
// an op that may run in place; a tensor outside its storage; a storage outside the arena or off alignment;
// a use of a storage outside its stated lifetime; two storages that are stated alive together and overlap.
// Empty: the plan is right.
std::vector<std::string> CheckPlan(const ir::Graph& graph, const MemoryPlan& plan, const OpTraitsFn& traits);

}  // namespace autospc::memory
