#include "runtime/train/step_printer.h"

#include <cstdio>

namespace autospc::train {

Status StepPrinter::OnStep(const StepRecord& r) {
  if (json_) {
    fmt::print(
        "{{\"step\": {}, \"loss\": {:.9g}, \"grad_norm\": {:.9g}, \"lr\": {:.9g}, \"tokens\": {}, \"seconds\": {:.6f}, "
        "\"data_seconds\": {:.6f}}}\n",
        r.step, r.loss, r.grad_norm, r.lr, r.tokens, r.seconds, r.data_seconds);
  } else {
    fmt::print("step {:>3}  loss {:.9g}  grad_norm {:.9g}  lr {:.4g}  {:.3f} s\n", r.step, r.loss, r.grad_norm, r.lr,
               r.seconds);
  }
  std::fflush(stdout);
  return Ok();
}

Status StepPrinter::OnEval(const EvalRecord& r) {
  if (json_) {
    fmt::print(
        "{{\"step\": {}, \"eval_loss\": {:.9g}, \"perplexity\": {:.9g}, \"eval_tokens\": {}, \"eval_seconds\": "
        "{:.6f}}}\n",
        r.step, r.loss, r.perplexity, r.tokens, r.seconds);
  } else {
    fmt::print("step {:>3}  eval_loss {:.9g}  perplexity {:.6g}  ({} batches, {:.3f} s)\n", r.step, r.loss,
               r.perplexity, r.batches, r.seconds);
  }
  std::fflush(stdout);
  return Ok();
}

}  // namespace autospc::train
