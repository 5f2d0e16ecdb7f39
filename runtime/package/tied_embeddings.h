// Whether a checkpoint means an output projection (a head) and an embedding to be one tensor.
//
// Hugging Face checkpoints with tied embeddings hold one tensor for both, and config.json beside it says so, while an
// export made without weights has lost the tie: there the two are separate parameters.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/checkpoint.h"

namespace autospc {

// Two parameters of one shape and type that may be meant as one.
struct TieCandidate {
  WantedTensor head, embedding;
};

// Of the candidates, those that the checkpoint ties: config.json beside it has "tie_word_embeddings": true, and it
// holds the embedding and either no head or the same bytes for both. `prefix` as in ResolveOptions. kBadInput: a tensor
// that can't be read.
Result<std::vector<TieCandidate>> TiedByCheckpoint(const Checkpoint& checkpoint,
                                                   const std::vector<TieCandidate>& candidates,
                                                   const std::string& prefix);

}  // namespace autospc
