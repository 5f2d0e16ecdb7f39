// The adjoint of look-ups by LibTorch's ops.
#include <ATen/ops/_index_put_impl.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>

#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"
#include "runtime/exec/portable.h"
#include "runtime/exec/scratch.h"

namespace autospc::exec {
namespace {

// out[index[i]] += rows[i], in the order of i: on a GPU by sorting, so that the bits are the same from run to run.
void AddToRows(at::Tensor out, const at::Tensor& index, const at::Tensor& rows) {
  at::_index_put_impl_(out, c10::List<std::optional<at::Tensor>>({index}), rows, /*accumulate=*/true, /*unsafe=*/false);
}

// grad [..., D], indices [...], num_weights, padding_idx, scale_grad_by_freq: out [V, D]. Sums are taken in float32 or
// better, in a stretch of columns at a time.
Status PortableEmbeddingBackward(const Call& c) {
  const at::Tensor& out = c.outputs[0];
  const int64_t rows = out.size(0), width = out.size(1), padding = c.Int(3);
  const at::Tensor index = c.Tensor(1).reshape({-1}).to(at::kLong);
  const at::Tensor grad = c.Tensor(0).reshape({index.numel(), width});
  const at::ScalarType type = out.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor counts;
  if (c.Bool(4)) {
    counts = at::zeros({rows}, out.options().dtype(type));
    AddToRows(counts, index, at::ones({index.numel()}, counts.options()));
    counts.clamp_min_(1).unsqueeze_(1);
  }
  const int64_t step = std::clamp<int64_t>(kPortableSpan / std::max<int64_t>(rows, 1), 1, std::max<int64_t>(width, 1));
  CallScratch scratch(c);
  const at::Tensor buffer = scratch.Take({rows * step}, type);
  for (int64_t first = 0; first < width; first += step) {
    const int64_t columns = std::min(step, width - first);
    const at::Tensor sums = buffer.narrow(0, 0, rows * columns).view({rows, columns});
    sums.zero_();
    AddToRows(sums, index, grad.narrow(1, first, columns).to(type));
    if (counts.defined()) sums.div_(counts);
    if (padding >= 0 && padding < rows) sums.select(0, padding).zero_();
    out.narrow(1, first, columns).copy_(sums);
  }
  return Ok();
}

}  // namespace

void AddPortableIndexKernels(KernelTable* table) {
  table->Add("aten.embedding_dense_backward.default", &CheckEmbeddingBackward, &PortableEmbeddingBackward);
}

}  // namespace autospc::exec
