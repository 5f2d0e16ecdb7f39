#include "runtime/train/loop.h"

#include "runtime/base/log.h"
#include "runtime/base/stopwatch.h"
#include "runtime/train/check_numerics.h"
#include "runtime/train/rank.h"

namespace autospc::train {
namespace {

Status Evaluate(Rank* rank, const LoopOptions& options, const std::vector<StepListener*>& listeners) {
  ASSIGN_OR_RETURN(const EvalRecord record, EvaluateOn(rank, options.eval, options.eval_batches));
  for (StepListener* listener : listeners) RETURN_IF_ERROR(listener->OnEval(record));
  return Ok();
}

}  // namespace

FiniteCheck::FiniteCheck(Rank* rank) : rank_(rank) {
  for (const auto& output : rank->program().outputs) {
    if (output->kind == program::OutputKind::Loss) loss_ = output->name;
  }
}

Status FiniteCheck::OnStep(const StepRecord& record) {
  Status status = CheckFinite(record, loss_, rank_->options().see.check_numerics);
  if (!status.ok()) rank_->set_shared_error();
  return status;
}

Status Train(Rank* rank, data::BatchSource* source, const LoopOptions& options,
             const std::vector<StepListener*>& listeners) {
  const std::vector<data::InputView> inputs = rank->Inputs();
  int64_t evaluated = rank->steps();
  while (rank->steps() < options.steps) {
    StepRecord record;
    record.step = rank->steps() + 1;
    record.lr = options.learning_rate.At(record.step);
    int64_t had = 0;  // micro-batches
    for (; had < rank->micro_batches(); ++had) {
      Stopwatch clock;
      ASSIGN_OR_RETURN(const data::BatchInfo batch, source->Next(inputs));
      if (batch.end) break;
      record.tokens += batch.tokens;
      record.data_seconds += clock.Lap();
      RETURN_IF_ERROR(rank->Step(record.lr));
      record.seconds += clock.Lap();
    }
    if (had < rank->micro_batches()) {
      const std::string left = had > 0 ? fmt::format("; {} of the {} micro-batches of another are left out", had, rank->micro_batches()) : "";
      if (rank->first())
        Log(LogLevel::kWarning, fmt::format("the data is over after step {} of {}{}", record.step - 1, options.steps, left));
      break;
    }
    record.loss = rank->capture().loss();
    record.grad_norm = rank->capture().grad_norm();
    record.outputs = rank->capture().outputs();
    for (StepListener* listener : listeners) RETURN_IF_ERROR(listener->OnStep(record));
    if (options.eval != nullptr && options.eval_every > 0 && record.step % options.eval_every == 0) {
      RETURN_IF_ERROR(Evaluate(rank, options, listeners));
      evaluated = record.step;
    }
    if (options.stop && options.stop()) break;
  }
  if (options.eval != nullptr && rank->steps() > evaluated) RETURN_IF_ERROR(Evaluate(rank, options, listeners));
  for (StepListener* listener : listeners) RETURN_IF_ERROR(listener->OnEnd());
  return Ok();
}

}  // namespace autospc::train
