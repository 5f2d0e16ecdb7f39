// What kernels of the portable set share: tensors' elements in row-major order, in stretches that bound their scratch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "runtime/package/portable_workspace.h"

namespace autospc::exec {

// Elements [begin, end) of x in row-major order, whatever its strides, into `to` [end - begin], of any dtype. Nothing is
// allocated.
void CopyElementsTo(const at::Tensor& x, int64_t begin, int64_t end, const at::Tensor& to);

// The same, zeros for elements at or past x's end.
void CopyElementsOrZeroTo(const at::Tensor& x, int64_t begin, int64_t end, const at::Tensor& to);

// A dense tensor's elements in the order of its memory: [numel].
at::Tensor FlatView(const at::Tensor& dense);
// A contiguous tensor's bytes.
at::Tensor BytesView(const at::Tensor& contiguous);

// The numbers of the counter-based generator (philox.h) of the elements `index` (int64 [n], not negative): float32 [n] in
// [0, 1), bit by bit those of Uniform. Takes some 100 bytes an element from LibTorch's allocator while it runs, so callers ask
// for no more than kUniformsAtATime.
inline constexpr int64_t kUniformsAtATime = int64_t{1} << 18;
at::Tensor UniformAt(uint64_t seed, int64_t site, const at::Tensor& index);

}  // namespace autospc::exec
