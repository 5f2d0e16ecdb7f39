// What a run keeps of a step: the loss, the gradient norm, and (asked for) every gradient, outside the arena.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/exec/executor.h"
#include "runtime/package/golden.h"

namespace autospc::train {

class Capture {
 public:
  // Memory for the gradients is taken here, so that a step takes none.
  static Result<Capture> Make(const exec::Executor& executor, bool gradients);

  Status Take(const program::OutputT& output, const at::Tensor& value);  // for Executor::Step
  exec::Executor::OnOutput OnOutput() {
    return [this](const program::OutputT& output, const at::Tensor& value) { return Take(output, value); };
  }
  void BeginStep() { squares_ = 0; }

  double loss() const { return loss_; }
  // The program's own norm, or that of the gradients seen where it computes none.
  double grad_norm() const;
  const std::vector<ComputedGradient>& gradients() const { return gradients_; }

 private:
  double loss_ = 0;
  double norm_ = 0;
  double squares_ = 0;
  bool has_loss_ = false, has_norm_ = false, sum_squares_ = false;
  std::vector<ComputedGradient> gradients_;
  std::vector<at::Tensor> copies_;  // of gradients_, in the same order
};

}  // namespace autospc::train
