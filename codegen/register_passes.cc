#include "codegen/register_passes.h"

#include "passes/canonical/register.h"
#include "passes/memory/register.h"
#include "passes/partition/register.h"
#include "passes/step/register.h"

namespace autospc {

void RegisterAllPasses(PassRegistry& registry) {
  RegisterCanonicalPasses(registry);
  partition::RegisterPartitionPasses(registry);
  step::RegisterStepPasses(registry);
  memory::RegisterMemoryPasses(registry);
}

}  // namespace autospc
