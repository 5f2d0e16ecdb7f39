#include "passes/step/register.h"

#include "passes/step/micro_batches.h"
#include "passes/step/zero.h"

namespace autospc {

void RegisterStepPasses(PassRegistry& registry) {
  registry.Add({"total-losses", "losses of all micro-batches of a step together", step::TotalLosses});
  registry.Add({"accumulate-gradients", "gradients summed over the micro-batches of a step", step::AccumulateGradients});
  registry.Add({"bucket-gradients", "reduce gradients together, in place, as they are born", step::BucketGradients});
  registry.Add({"update-parameters", "gradient norm, clipping and fused updates", step::AddOptimizer});
  registry.Add({"write-buffers", "copy updated buffers into their storage", step::WriteBuffers});
}

std::vector<std::string> StepPipeline(const PassContext& context) {
  std::vector<std::string> pipeline = {
      "bucket-gradients",  // first: it decides when a gradient is final
      "update-parameters",
      "write-buffers",
  };
  // What is reduced is the sum over micro-batches, but with ZeRO 2, which holds no whole sums: there what is summed is the
  // rank's block of each reduction.
  const int at = step::ZeroStage(context) == 2 ? 1 : 0;
  if (context.micro_batches > 1) pipeline.insert(pipeline.begin() + at, "accumulate-gradients");
  return pipeline;
}

}  // namespace autospc
