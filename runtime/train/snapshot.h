// A rank's part of a checkpoint in memory of its own, so that it is written while the next steps run.
#pragma once

#include <ATen/core/Tensor.h>

#include <utility>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/checkpoint/layout.h"
#include "runtime/exec/executor.h"
#include "runtime/exec/region.h"

namespace autospc::train {

class Snapshot {
 public:
  // Takes the memory now, so that a step later takes none. kDoesNotFit: there is none. The executor outlives it.
  static Result<Snapshot> Make(const checkpoint::Layout& layout, exec::Executor* executor);

  // Copies the rank's slices as the executor holds them now.
  void Take();
  const std::byte* data() const { return memory_.data(); }
  int64_t bytes() const { return memory_.bytes(); }

 private:
  exec::Region memory_;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies_;  // in `memory_`, of the executor
};

}  // namespace autospc::train
