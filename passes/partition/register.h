// The partition pass.
#pragma once

#include "passes/framework/pass.h"

namespace autospc::partition {

// "partition": the global graph becomes one program for ctx.ranks ranks (see partitioner.h).
void RegisterPartitionPasses(PassRegistry& registry);

}  // namespace autospc::partition
