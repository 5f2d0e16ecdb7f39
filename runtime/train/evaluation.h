// The loss on data that is not trained on (--eval-data).
#pragma once

#include <cstdint>

#include "runtime/base/result.h"
#include "runtime/data/batch_source.h"

namespace autospc::train {

class Rank;

struct EvalRecord {
  int64_t step = 0;       // after which step
  double loss = 0;        // the mean over all valid labels of the batches
  double perplexity = 0;  // exp(loss)
  int64_t batches = 0;
  int64_t tokens = 0;  // valid labels
  double seconds = 0;
};

// The first `batches` batches of a source that ends (0: all of it), the same ones each time. Nothing of the training
// changes but what the inputs hold: no weight, buffer, optimiser state, nor the dropout of later steps. All ranks call
// it.
Result<EvalRecord> EvaluateOn(Rank* rank, data::BatchSource* source, int64_t batches);

}  // namespace autospc::train
