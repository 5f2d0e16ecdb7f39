// What a run keeps of a step: the loss, the gradient norm, and (asked for) every gradient, outside the arena.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/exec/executor.h"
#include "runtime/package/golden.h"

namespace autospc::train {

// A floating-point scalar of any type, on any device.
double AsDouble(const at::Tensor& scalar);

class Capture {
 public:
  // `gradients`: whether the job wants them, the same on all ranks; `keep`: whether this rank keeps them. Those of
  // which each rank has a block (ZeRO) are gathered as they become final, so all ranks take part. Memory for the
  // gradients is taken here, so that a step takes none. The executor outlives the capture.
  static Result<Capture> Make(const exec::Executor& executor, bool gradients, bool keep = true);

  // Runs a step of the executor and keeps what the job wants of it.
  Status Step(exec::Executor* executor);
  void BeginStep() { squares_ = 0; }

  double loss() const { return loss_; }
  // The program's own norm, or that of the gradients seen where it computes none.
  double grad_norm() const;
  const std::vector<ComputedGradient>& gradients() const { return gradients_; }
  // Further scalar outputs by name (autospc compile --log-output), in the program's order.
  const std::vector<std::pair<std::string, double>>& outputs() const { return outputs_; }

 private:
  double loss_ = 0;
  double norm_ = 0;
  double squares_ = 0;
  std::vector<std::pair<std::string, double>> outputs_;
  bool Wants(const program::OutputT& output);
  Status Take(const program::OutputT& output, const at::Tensor& value);
  Status Gather(const program::OutputT& output, const at::Tensor& block);
  at::Tensor* CopyOf(const std::string& name);

  const exec::Executor* executor_ = nullptr;
  bool has_loss_ = false, has_norm_ = false, sum_squares_ = false;
  std::vector<ComputedGradient> gradients_;
  std::vector<at::Tensor> copies_;  // of gradients_, in the same order
  at::Tensor blocks_;               // all ranks' blocks of one gradient; undefined where none is in blocks
};

}  // namespace autospc::train
