// Scratch of kernels that are made of LibTorch's ops alone, on any device.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "runtime/exec/call.h"

namespace autospc::exec {

// Tensors that live for one run of an instruction. On the host they come from LibTorch's allocator, which the executor
// points at the instruction's workspace (workspace.h). Kernels of the portable set cut them from the workspace
// themselves, one after the other, each aligned to 64: on a device LibTorch's allocator is not ours to direct. What the
// workspace does not hold LibTorch allocates on the device.
class CallScratch {
 public:
  explicit CallScratch(const Call& call) : call_(call) {}
  CallScratch(const CallScratch&) = delete;
  CallScratch& operator=(const CallScratch&) = delete;

  // Contiguous, of unknown content.
  at::Tensor Take(at::IntArrayRef sizes, at::ScalarType type);
  // Bytes of the workspace that nothing has taken yet.
  int64_t left() const { return static_cast<int64_t>(call_.workspace.size()) - taken_; }

 private:
  const Call& call_;
  int64_t taken_ = 0;
};

}  // namespace autospc::exec
