// Copies and reductions on memory that the host may not reach, by LibTorch's kernels.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

#include "runtime/base/result.h"
#include "runtime/dist/reduce_rows.h"

namespace autospc {

// Work is queued on the device's current stream. Errors of LibTorch: kFailed.
class DeviceMemory {
 public:
  explicit DeviceMemory(c10::Device device) : device_(device) {}

  c10::Device device() const { return device_; }
  // The bytes at `data` as a tensor, which owns nothing.
  at::Tensor Bytes(void* data, int64_t bytes) const;
  // The same as elements.
  at::Tensor Elements(void* data, at::IntArrayRef sizes, c10::ScalarType type) const;

  Status Copy(void* to, const void* from, int64_t bytes) const;
  // As ReduceRows of reduce_rows.h: the same bits of every sum, equal maxima.
  Status Reduce(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op);

 private:
  void Accumulate(const at::Tensor& rows, const at::Tensor& out);

  c10::Device device_;
  at::Tensor sums_;  // float32 accumulators of 16-bit floats, made when first needed
};

}  // namespace autospc
