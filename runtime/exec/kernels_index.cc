// Look-ups and their adjoints.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/_index_put_impl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/index.h>
#include <ATen/ops/index_select.h>

#include <algorithm>

#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"

namespace autospc::exec {

Status CheckEmbeddingBackward(const Call& c) {
  const at::Tensor &grad = c.Tensor(0), &index = c.Tensor(1), &out = c.outputs[0];
  const bool fits = out.defined() && out.dim() == 2 && grad.dim() >= 1 && grad.size(-1) == out.size(1) &&
                    grad.scalar_type() == out.scalar_type() && grad.numel() == index.numel() * out.size(1);
  return fits ? Ok() : Status(Misshapen(c, "a gradient that is not a row of the table for each index"));
}

namespace {

// weight [V, D], indices [...]: out [..., D].
Status Embedding(const Call& c) {
  const at::Tensor& weight = c.Tensor(0);
  at::Tensor rows = c.outputs[0].is_contiguous() ? c.outputs[0].view({-1, weight.size(1)})
                                                 : at::empty({c.Tensor(1).numel(), weight.size(1)}, weight.options());
  at::index_select_out(rows, weight, 0, c.Tensor(1).reshape({-1}));
  if (!c.outputs[0].is_contiguous()) c.outputs[0].copy_(rows.view(c.outputs[0].sizes()));
  return Ok();
}

constexpr int64_t kColumns = 512;  // accumulators of one pass over a row, on the stack

// Adds up the rows of grad [N, D] that went to the same row of out [V, D], in the order of positions, in
// float32 or better, whatever the number of threads. order [N] holds positions sorted by (index, position).
template <typename T>
void AccumulateRows(const at::Tensor& grad, const int64_t* index, const int64_t* order, int64_t count,
                    int64_t padding_idx, bool by_frequency, const at::Tensor& out) {
  using Acc = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const int64_t width = out.size(1);
  const T* from = grad.const_data_ptr<T>();
  T* to = out.data_ptr<T>();
  const int64_t from_row = grad.stride(0), to_row = out.stride(0), to_col = out.stride(1), from_col = grad.stride(1);
  at::parallel_for(0, count, std::max<int64_t>(1, 32768 / std::max<int64_t>(width, 1)),
                   [&](int64_t begin, int64_t end) {
                     // A run of one index belongs to the range in which it starts.
                     while (begin > 0 && begin < end && index[order[begin]] == index[order[begin - 1]]) ++begin;
                     for (int64_t start = begin; start < end;) {
                       const int64_t row = index[order[start]];
                       int64_t stop = start;
                       while (stop < count && index[order[stop]] == row) ++stop;
                       // Asked once more: where the result lies on the indices, they have changed by now.
                       const bool in_table = row >= 0 && row < out.size(0) && row != padding_idx;
                       for (int64_t col = 0; in_table && col < width; col += kColumns) {
                         const int64_t n = std::min(kColumns, width - col);
                         Acc sum[kColumns] = {};
                         for (int64_t i = start; i < stop; ++i) {
                           const T* g = from + order[i] * from_row + col * from_col;
                           if (from_col == 1) {
                             for (int64_t j = 0; j < n; ++j) sum[j] += static_cast<Acc>(g[j]);
                           } else {
                             for (int64_t j = 0; j < n; ++j) sum[j] += static_cast<Acc>(g[j * from_col]);
                           }
                         }
                         const Acc scale = by_frequency ? Acc(1) / static_cast<Acc>(stop - start) : Acc(1);
                         for (int64_t j = 0; j < n; ++j)
                           to[row * to_row + (col + j) * to_col] = static_cast<T>(sum[j] * scale);
                       }
                       start = stop;
                     }
                   });
}

// grad [..., D], indices [...], num_weights, padding_idx, scale_grad_by_freq: out [V, D].
Status EmbeddingBackward(const Call& c) {
  const at::Tensor& out = c.outputs[0];
  out.zero_();
  const at::Tensor index = c.Tensor(1).reshape({-1}).to(at::kLong).contiguous();
  const int64_t count = index.numel();
  const at::Tensor grad = c.Tensor(0).reshape({count, out.size(1)});
  const int64_t* at_index = index.const_data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) {
    if (at_index[i] < 0 || at_index[i] >= out.size(0)) {
      return Error{Code::kFailed, fmt::format("index {} is outside the table of {} rows", at_index[i], out.size(0)), "",
                   ""};
    }
  }
  at::Tensor order = at::empty({count}, at::TensorOptions().dtype(at::kLong));
  int64_t* p = order.data_ptr<int64_t>();
  for (int64_t i = 0; i < count; ++i) p[i] = i;
  std::sort(p, p + count,
            [&](int64_t a, int64_t b) { return at_index[a] != at_index[b] ? at_index[a] < at_index[b] : a < b; });
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, out.scalar_type(), "embedding_dense_backward", [&] {
    AccumulateRows<scalar_t>(grad, at_index, p, count, c.Int(3), c.Bool(4), out);
  });
  return Ok();
}

c10::List<std::optional<at::Tensor>> Indices(const Call& c, size_t i) {
  c10::List<std::optional<at::Tensor>> list;
  for (const at::Tensor& t : c.Tensors(i)) list.push_back(t.defined() ? std::optional<at::Tensor>(t) : std::nullopt);
  return list;
}

// self, indices, values, accumulate (_unsafe_index_put has the same arguments).
Status IndexPut(const Call& c) {
  at::Tensor out = c.outputs[0];
  out.copy_(c.Tensor(0));
  at::_index_put_impl_(out, Indices(c, 1), c.Tensor(2), c.Bool(3), /*unsafe=*/false);
  return Ok();
}

Status UnsafeIndex(const Call& c) {  // self, indices
  at::Tensor out = c.outputs[0];
  at::index_out(out, c.Tensor(0), Indices(c, 1));
  return Ok();
}

}  // namespace

void AddIndexKernels(KernelTable* table) {
  table->Add("aten.embedding.default", &Embedding);
  table->Add("aten.index_put.default", &IndexPut);
  table->Add("aten._unsafe_index_put.default", &IndexPut);
  table->Add("aten._unsafe_index.Tensor", &UnsafeIndex);
}

void AddHostIndexKernels(KernelTable* table) {
  table->Add("aten.embedding_dense_backward.default", &CheckEmbeddingBackward, &EmbeddingBackward);
}

}  // namespace autospc::exec
