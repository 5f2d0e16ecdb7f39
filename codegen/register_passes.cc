#include "codegen/register_passes.h"

#if __has_include("passes/canonical/register.h")
#include "passes/canonical/register.h"
#define AUTOSPC_HAS_CANONICAL
#endif
#if __has_include("passes/partition/register.h")
#include "passes/partition/register.h"
#define AUTOSPC_HAS_PARTITION
#endif
#if __has_include("passes/step/register.h")
#include "passes/step/register.h"
#define AUTOSPC_HAS_STEP
#endif
#if __has_include("passes/memory/register.h")
#include "passes/memory/register.h"
#define AUTOSPC_HAS_MEMORY
#endif

namespace autospc {

void RegisterAllPasses(PassRegistry& registry) {
#ifdef AUTOSPC_HAS_CANONICAL
  canonical::RegisterCanonicalPasses(registry);
#endif
#ifdef AUTOSPC_HAS_PARTITION
  partition::RegisterPartitionPasses(registry);
#endif
#ifdef AUTOSPC_HAS_STEP
  step::RegisterStepPasses(registry);
#endif
#ifdef AUTOSPC_HAS_MEMORY
  memory::RegisterMemoryPasses(registry);
#endif
}

}  // namespace autospc
