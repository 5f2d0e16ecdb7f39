// The memory planner as a pass, for autospc-opt: it changes nothing, plans the graph without workspaces and
// in-place reuse, checks the plan and notes its size. A compilation plans in codegen::Lower, which knows kernels.
#pragma once

#include "passes/framework/pass.h"

namespace autospc {

void RegisterMemoryPasses(PassRegistry& registry);

namespace memory {
using autospc::RegisterMemoryPasses;
}

}  // namespace autospc
