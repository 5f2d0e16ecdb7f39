#include "runtime/package/attention_workspace.h"

#include <algorithm>

#include "runtime/base/alignment.h"
#include "runtime/package/kernels.h"

namespace autospc {
namespace {

int64_t DivUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The sizes of a slice's buffers; the kernels carve them in the same way (runtime/exec/attention_tiles.h).
struct Tiles {
  explicit Tiles(const AttentionShape& s)
      : rows(std::min(kAttentionQueryTile, std::max<int64_t>(s.q_len, 1))),
        columns(std::min(kAttentionKeyTile, std::max<int64_t>(s.k_len, 1))),
        element(std::max<int64_t>(s.element_size, 4)) {}

  int64_t Scores() const { return Aligned(rows * Aligned(columns * element)); }
  int64_t Matrix(int64_t count, int64_t length) const { return Aligned(count * Aligned(length * element)); }
  int64_t Column() const { return Aligned(rows * element); }

  int64_t rows, columns, element;
};

int64_t QueryTasks(const AttentionShape& s) { return s.batch * s.q_heads * DivUp(s.q_len, kAttentionQueryTile); }
int64_t KeyTasks(const AttentionShape& s) { return s.batch * s.kv_heads * DivUp(s.k_len, kAttentionKeyTile); }

bool IsDirect(const TensorMeta& t) {
  return ElementBytes(t.dtype) >= 4 && IsDirectRow(t.sizes[2], t.sizes[3], t.strides[2], t.strides[3]);
}

}  // namespace

int64_t AttentionForwardSlices(const AttentionShape& s, int threads) {
  return std::clamp<int64_t>(QueryTasks(s), 1, threads);
}

int64_t AttentionBackwardSlices(const AttentionShape& s, int threads) {
  return std::clamp<int64_t>(std::max(QueryTasks(s), KeyTasks(s)), 1, threads);
}

int64_t AttentionForwardSliceBytes(const AttentionShape& s) {
  const Tiles t(s);
  // Scores, the unnormalised output, and per row the maximum, the sum and the correction.
  int64_t bytes = t.Scores() + t.Matrix(t.rows, s.value_dim) + 3 * t.Column();
  if (!s.direct) bytes += t.Matrix(t.rows, s.dim) + t.Matrix(t.columns, s.dim) + t.Matrix(t.columns, s.value_dim);
  return bytes;
}

int64_t AttentionBackwardSliceBytes(const AttentionShape& s) {
  const Tiles t(s);
  // Probabilities, gradients of the scores, and per row the log-sum-exp and the sum of grad_out * out.
  int64_t bytes = 2 * t.Scores() + 2 * t.Column();
  if (!s.direct) {
    // q, k, v and their gradients; out and its gradient.
    bytes += 2 * (t.Matrix(t.rows, s.dim) + t.Matrix(t.columns, s.dim) + t.Matrix(t.columns, s.value_dim) +
                  t.Matrix(t.rows, s.value_dim));
  }
  return bytes;
}

AttentionShape AttentionShapeOf(const std::vector<TensorMeta>& operands, bool backward) {
  const size_t first = backward ? 1 : 0;  // grad_out comes before q
  const TensorMeta &q = operands[first], &k = operands[first + 1], &v = operands[first + 2];
  AttentionShape s;
  s.batch = q.sizes[0], s.q_heads = q.sizes[1], s.kv_heads = k.sizes[1];
  s.q_len = q.sizes[2], s.k_len = k.sizes[2];
  s.dim = q.sizes[3], s.value_dim = v.sizes[3];
  s.element_size = ElementBytes(q.dtype);
  return s;
}

int64_t AttentionOpWorkspace(std::string_view op, const std::vector<TensorMeta>& operands,
                             const std::vector<TensorMeta>& results) {
  const bool backward = op == "autosp.attention_backward";
  const size_t first = backward ? 1 : 0;
  AttentionShape s = AttentionShapeOf(operands, backward);
  s.direct = std::all_of(operands.begin() + first, operands.begin() + first + 3, IsDirect);
  if (!backward) return AttentionWorkspace(s);
  s.direct = s.direct && IsDirect(operands[0]) && IsDirect(operands[operands.size() - 2]) &&
             std::all_of(results.begin(), results.end(), IsDirect);
  return AttentionBackwardWorkspace(s);
}

}  // namespace autospc
