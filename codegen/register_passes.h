// All passes, for the driver and for autospc-opt.
#pragma once

#include "passes/framework/pass.h"

namespace autospc {

// In the order of the pipeline. A name given twice aborts: it is our own bug.
void RegisterAllPasses(PassRegistry& registry);

}  // namespace autospc
