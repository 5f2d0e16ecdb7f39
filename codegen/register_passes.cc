#include "codegen/register_passes.h"

#include "passes/canonical/register.h"
#include "passes/memory/register.h"
#include "passes/partition/register.h"
#include "passes/precision/register.h"
#include "passes/recompute/register.h"
#include "passes/step/register.h"
#include "passes/tile/register.h"

namespace autospc {

void RegisterAllPasses(PassRegistry& registry) {
  RegisterCanonicalPasses(registry);
  precision::RegisterPrecisionPasses(registry);
  partition::RegisterPartitionPasses(registry);
  tile::RegisterTilePasses(registry);
  step::RegisterStepPasses(registry);
  memory::RegisterMemoryPasses(registry);
  recompute::RegisterRecomputePasses(registry);
}

}  // namespace autospc
