// Recomputation as a pass, for autospc-opt: without a cost model an instruction costs its results' bytes.
#pragma once

#include "passes/framework/pass.h"

namespace autospc::recompute {

// "recompute": the fastest candidate of FindCandidates whose planned peak is within context.memory_budget (no budget:
// the fastest), by the rule in context.recompute. kDoesNotFit where none is. A compilation runs the same search with
// its kernels' costs and workspaces (compiler/driver.h).
void RegisterRecomputePasses(PassRegistry& registry);

}  // namespace autospc::recompute
