#include "passes/precision/register.h"

namespace autospc::precision {

void RegisterPrecisionPasses(PassRegistry& registry) {
  registry.Add({"mixed-precision", "with --dtype bf16, compute in bfloat16 what need not be float32", MixPrecision});
}

}  // namespace autospc::precision
