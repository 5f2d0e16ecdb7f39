#include "passes/canonical/register.h"

namespace autospc {

void RegisterCanonicalPasses(PassRegistry& registry) {
  registry.Add({"simplify", "drop what changes nothing, and dead code", canonical::Simplify});
  registry.Add({"recognise-attention", "attention, however written, becomes one op over a predicate",
                canonical::RecogniseAttention});
}

const std::vector<std::string>& CanonicalPipeline() {
  static const std::vector<std::string> pipeline = {
      "simplify",             // so that patterns are met in one form
      "recognise-attention",  // reads masks as they were written, so before integers are folded
  };
  return pipeline;
}

}  // namespace autospc
