#include <ATen/core/Tensor.h>

#include "runtime/exec/attention.h"

namespace autospc::exec {

AttentionView ViewOf(const at::Tensor& tensor) {
  TORCH_INTERNAL_ASSERT(tensor.dim() == 4);
  AttentionView view;
  view.data = const_cast<void*>(tensor.const_data_ptr());
  for (size_t i = 0; i < 4; ++i) {
    view.sizes[i] = tensor.size(static_cast<int64_t>(i));
    view.strides[i] = tensor.stride(static_cast<int64_t>(i));
  }
  return view;
}

AttentionVector VectorOf(const at::Tensor& tensor) {
  TORCH_INTERNAL_ASSERT(tensor.dim() == 2);
  AttentionVector vector;
  vector.data = tensor.const_data_ptr();
  vector.dtype = tensor.scalar_type();
  for (size_t i = 0; i < 2; ++i) {
    vector.sizes[i] = tensor.size(static_cast<int64_t>(i));
    vector.strides[i] = tensor.stride(static_cast<int64_t>(i));
  }
  return vector;
}

}  // namespace autospc::exec
