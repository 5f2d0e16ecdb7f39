// Scratch of the attention kernels (runtime/exec/attention.h), in bytes: planned at compile time, so nothing here
// needs LibTorch. The kernels take what this formula says and allocate nothing.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace autospc {

struct TensorMeta;  // runtime/package/kernels.h

// What the formula needs to know of an attention: q [batch, q_heads, q_len, dim], k [batch, kv_heads, k_len, dim],
// v [batch, kv_heads, k_len, value_dim], each element of `element_size` bytes (2: bfloat16, float16; 4; 8).
// `direct`: matrices are read and gradients accumulated where they lie, which needs float32 or float64 elements
// and for every operand and gradient a last stride of 1 and a row stride of at least the row's length
// (IsDirectRow); otherwise tiles pass through buffers in the workspace.
struct AttentionShape {
  int64_t batch = 0, q_heads = 0, kv_heads = 0;
  int64_t q_len = 0, k_len = 0;
  int64_t dim = 0, value_dim = 0;
  int64_t element_size = 4;
  bool direct = true;
};

// Tiles of the score matrix: rows (queries) and columns (keys), in elements. The backward pass keeps two of them in
// a core's second-level cache; halving or doubling either number costs 3 to 15% somewhere.
inline constexpr int64_t kAttentionQueryTile = 128;
inline constexpr int64_t kAttentionKeyTile = 512;
// Threads that the plan provides for: more cores leave the rest idle in attention.
inline constexpr int kAttentionThreads = 8;

// Whether rows of `length` elements with these strides can be handed to a matrix product as they lie.
inline bool IsDirectRow(int64_t rows, int64_t length, int64_t row_stride, int64_t stride) {
  return (stride == 1 || length == 1) && (rows == 1 || (row_stride >= length && row_stride <= INT32_MAX));
}

// Tasks that may run at the same time, each with its own slice of the workspace, at most `threads`.
int64_t AttentionForwardSlices(const AttentionShape& shape, int threads = kAttentionThreads);
int64_t AttentionBackwardSlices(const AttentionShape& shape, int threads = kAttentionThreads);

// Bytes of one slice, a multiple of 64.
int64_t AttentionForwardSliceBytes(const AttentionShape& shape);
int64_t AttentionBackwardSliceBytes(const AttentionShape& shape);

// Bytes of the whole workspace, to be aligned to 64. A kernel that gets less runs on fewer threads, down to one slice.
inline int64_t AttentionWorkspace(const AttentionShape& shape, int threads = kAttentionThreads) {
  return AttentionForwardSlices(shape, threads) * AttentionForwardSliceBytes(shape);
}
inline int64_t AttentionBackwardWorkspace(const AttentionShape& shape, int threads = kAttentionThreads) {
  return AttentionBackwardSlices(shape, threads) * AttentionBackwardSliceBytes(shape);
}

// The shape of an instruction of attention, or of its backward pass, from its operands in schema order; `direct` is not looked at.
AttentionShape AttentionShapeOf(const std::vector<TensorMeta>& operands, bool backward);

// The workspace of an instruction, "autosp.attention" or "autosp.attention_backward", from its operands and results
// in schema order (lists flattened).
int64_t AttentionOpWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                             const std::vector<TensorMeta>& results);

}  // namespace autospc
