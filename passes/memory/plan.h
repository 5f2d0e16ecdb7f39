// The memory plan of a step: storages, lifetimes, in-place reuse and offsets in one arena.
#pragma once

#include <string>
#include <vector>

#include "passes/memory/storage.h"

namespace autospc::memory {

// Plans `graph` as it is ordered. kFailed with the checker's findings if the plan were wrong (our own bug).
// The graph must be differentiated and bound: constant sizes and strides, `base` set on views.
Result<MemoryPlan> PlanMemory(const ir::Graph& graph, const OpTraitsFn& traits);

}  // namespace autospc::memory
