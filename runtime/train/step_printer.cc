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

}  // namespace autospc::train
