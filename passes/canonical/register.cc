#include "passes/canonical/register.h"

namespace autospc {

void RegisterCanonicalPasses(PassRegistry& registry) {
  registry.Add({"functionalise", "in-place ops and writes through views become new values", canonical::Functionalise});
  registry.Add({"simplify", "drop what changes nothing, and dead code", canonical::Simplify});
  registry.Add({"recognise-attention", "attention, however written, becomes one op over a predicate",
                canonical::RecogniseAttention});
  registry.Add({"undo-repeat-kv", "attention reads keys and values with their own heads", canonical::UndoRepeatKv});
  registry.Add({"fold-integers", "affine integer values become aranges", canonical::FoldIntegers});
}

const std::vector<std::string>& CanonicalPipeline() {
  static const std::vector<std::string> pipeline = {
      "functionalise",        // first: every later pass takes a value to be one value
      "simplify",             // so that patterns are met in one form
      "recognise-attention",  // reads masks as they were written, so before integers are folded
      "undo-repeat-kv",       // over autosp.attention, whatever it was recognised from
      "fold-integers",        // what still feeds embeddings and rotary tables
      "simplify",             // the masks are dead now
  };
  return pipeline;
}

}  // namespace autospc
