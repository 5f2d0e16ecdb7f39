// Attention over predicates on the CPU: the kernels of autosp.attention and autosp.attention_backward
// (runtime/base/autosp_ops.h says what they compute). Blockwise softmax as in FlashAttention-2
// (arXiv:2307.08691): tiles that the predicate excludes are skipped, grouped query heads read their kv head in
// place, and only the output and the log-sum-exp are kept for the backward pass. The same bits from run to run
// and for every number of threads. Nothing is allocated: all scratch comes from `workspace`.
// Types: float32, float64, bfloat16, float16 (tiles of the last two are widened to float32).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <c10/core/ScalarType.h>

#include "runtime/base/predicate.h"
#include "runtime/base/result.h"
#include "runtime/package/attention_workspace.h"

namespace at {
class Tensor;
}

namespace autospc::exec {

// A [B, H, S, D] tensor somewhere in memory, strides in elements, any order.
struct AttentionView {
  void* data = nullptr;
  std::array<int64_t, 4> sizes{};
  std::array<int64_t, 4> strides{};
};

// An operand of the predicate: [B, S] or [1, S], strides in elements.
struct AttentionVector {
  const void* data = nullptr;
  c10::ScalarType dtype = c10::ScalarType::Long;  // Long or Bool
  std::array<int64_t, 2> sizes{};
  std::array<int64_t, 2> strides{};
};

// What forward and backward share.
struct AttentionArgs {
  c10::ScalarType dtype = c10::ScalarType::Float;  // of q, k, v, out and the gradients
  AttentionView q;                                 // [B, Hq, Sq, D]
  AttentionView k;                                 // [B, Hkv, Sk, D]
  AttentionView v;                                 // [B, Hkv, Sk, Dv]
  std::span<const AttentionVector> vectors;        // the predicate's vector operands
  const Predicate* predicate = nullptr;
  double scale = 1;
  int64_t q_start = 0;  // row i of q is global position min(q_start + i, q_valid - 1)
  int64_t q_valid = 0;
  std::span<const int> kv_heads;            // [Hq]: the kv head that each query head reads
  std::span<const int64_t> global_heads;    // [Hq]: the query heads' global indices; empty: 0, 1, … (dropout alone)
  int64_t heads = 0;                        // query heads of all ranks (dropout alone)
  // Row b of the batch is global row min(batch_start + b, batch - 1), or b where batch is 0 (dropout alone).
  int64_t batch_start = 0;
  int64_t batch = 0;
  double dropout_p = 0;
  uint64_t seed = 0;  // of the dropout, with `site`; element ((global b*heads + global head)*q_valid + position)*Sk + key
  int64_t site = 0;
  AttentionView out;    // [B, Hq, Sq, Dv]; written by the forward pass, read by the backward pass
  void* lse = nullptr;  // [B, Hq, Sq] contiguous, float32 (float64 for float64); -inf for an empty row
  std::span<std::byte> workspace;  // aligned to 64; Attention(Backward)Workspace(ShapeOf(args)) bytes, at least one slice
};

struct AttentionBackwardArgs : AttentionArgs {
  AttentionView grad_out;    // [B, Hq, Sq, Dv]
  AttentionView dq, dk, dv;  // as q, k, v; wholly overwritten. data == nullptr: not wanted
};

// kBadInput: sizes, types, head or vector indices that don't fit together, or a workspace that is too small.
Status CheckAttention(const AttentionArgs& args);
Status CheckAttentionBackward(const AttentionBackwardArgs& args);
// The same of all but the workspace, of which other kernels want another size.
Status CheckAttentionOperands(const AttentionArgs& args);
Status CheckAttentionBackwardOperands(const AttentionBackwardArgs& args);

// Computes out and lse. The arguments must have passed CheckAttention (once, when a program is loaded).
void AttentionForward(const AttentionArgs& args);
// Computes dq, dk, dv. The arguments must have passed CheckAttentionBackward.
void AttentionBackward(const AttentionBackwardArgs& args);

// The formula's view of the arguments.
AttentionShape ShapeOf(const AttentionArgs& args);
AttentionShape ShapeOf(const AttentionBackwardArgs& args);

// Views of tensors of 4 and 2 dims (attention_view.cc).
AttentionView ViewOf(const at::Tensor& tensor);
AttentionVector VectorOf(const at::Tensor& tensor);

}  // namespace autospc::exec
