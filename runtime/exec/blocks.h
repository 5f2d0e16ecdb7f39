// The blocks of a tensor that is flattened row-major and cut evenly over the ranks (ZeRO): rank r owns elements
// [r*b, min((r+1)*b, n)) of n, b = ceil(n / P); what a block is longer is zero.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace autospc::exec {

int64_t BlockLength(int64_t numel, int64_t ranks);

// Elements [begin, end) of x in row-major order, whatever its strides, to contiguous memory. Nothing is allocated.
void CopyElements(const at::Tensor& x, int64_t begin, int64_t end, std::byte* to);

// Elements [begin, end) of x as CopyElements, zeros for those at or past x's end.
void CopyElementsOrZero(const at::Tensor& x, int64_t begin, int64_t end, std::byte* to);

// Several tensors' blocks one after the other are as many columns; walks through columns [begin, end):
// visit(tensor, first element within its block, count, first column - begin).
template <typename Visit>
void ForColumns(const std::vector<int64_t>& blocks, int64_t begin, int64_t end, const Visit& visit) {
  int64_t start = 0;  // the column at which a tensor's block starts
  for (size_t i = 0; i < blocks.size() && start < end; start += blocks[i++]) {
    const int64_t from = std::max(begin, start), to = std::min(end, start + blocks[i]);
    if (from < to) visit(i, from - start, to - from, from - begin);
  }
}

}  // namespace autospc::exec
