#include "passes/step/register.h"

namespace autospc {

void RegisterStepPasses(PassRegistry& registry) {
  registry.Add({"bucket-gradients", "reduce gradients together, in place, as they are born", step::BucketGradients});
  registry.Add({"update-parameters", "gradient norm, clipping and fused updates", step::AddOptimizer});
  registry.Add({"write-buffers", "copy updated buffers into their storage", step::WriteBuffers});
}

const std::vector<std::string>& StepPipeline() {
  static const std::vector<std::string> pipeline = {
      "bucket-gradients",  // first: it decides when a gradient is final
      "update-parameters",
      "write-buffers",
  };
  return pipeline;
}

}  // namespace autospc
