#include "runtime/exec/scratch.h"

#include <ATen/ops/empty.h>

#include "runtime/base/alignment.h"
#include "runtime/exec/device_memory.h"

namespace autospc::exec {

at::Tensor CallScratch::Take(at::IntArrayRef sizes, at::ScalarType type) {
  int64_t bytes = static_cast<int64_t>(c10::elementSize(type));
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = bytes / static_cast<int64_t>(c10::elementSize(type));
    bytes *= sizes[d];
  }
  bytes = Aligned(bytes);
  if (call_.context->kernels == KernelSet::kHost || bytes > left() || bytes == 0) {
    taken_ += call_.context->kernels == KernelSet::kHost ? bytes : 0;
    return at::empty(sizes, at::TensorOptions(call_.context->device).dtype(type));
  }
  std::byte* const data = call_.workspace.data() + taken_;
  taken_ += bytes;
  return TensorAt(call_.context->device, data, sizes, strides, type);
}

}  // namespace autospc::exec
