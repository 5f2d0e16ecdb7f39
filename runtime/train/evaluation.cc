#include "runtime/train/evaluation.h"

#include <cmath>

#include "runtime/base/stopwatch.h"
#include "runtime/train/rank.h"

namespace autospc::train {

Result<EvalRecord> EvaluateOn(Rank* rank, data::BatchSource* source, int64_t batches) {
  const Stopwatch watch;
  const std::vector<data::InputView> inputs = rank->Inputs();
  RETURN_IF_ERROR(source->Seek(data::DataPosition{}));
  EvalRecord record;
  record.step = rank->steps();
  double sum = 0;
  while (batches == 0 || record.batches < batches) {
    ASSIGN_OR_RETURN(const data::BatchInfo batch, source->Next(inputs));
    if (batch.end) break;
    if (batch.tokens == 0) continue;  // its mean is that of nothing
    ASSIGN_OR_RETURN(const double loss, rank->Evaluate());
    sum += loss * static_cast<double>(batch.tokens);
    record.tokens += batch.tokens;
    ++record.batches;
  }
  if (record.tokens == 0) {
    return Error{Code::kBadInput, "the evaluation data has no whole batch with a valid label", "",
                 "give more --eval-data"};
  }
  record.loss = sum / static_cast<double>(record.tokens);
  record.perplexity = std::exp(record.loss);
  record.seconds = watch.Seconds();
  return record;
}

}  // namespace autospc::train
