// Ops that move elements without changing them. LibTorch's own overloads of these allocate their result;
// here views of the planned buffer are written in place.
#include <ATen/ops/expand.h>

#include <algorithm>

#include "runtime/exec/call.h"

namespace autospc::exec {
namespace {

Status Copy(const Call& c) {  // broadcast where the operand is smaller
  const at::Tensor& out = c.outputs[0];
  if (!out.is_alias_of(c.Tensor(0)) || out.data_ptr() != c.Tensor(0).data_ptr() ||
      out.strides() != c.Tensor(0).strides()) {
    out.copy_(c.Tensor(0));
  }
  return Ok();
}

Status CopySecond(const Call& c) {  // copy(self, src)
  c.outputs[0].copy_(c.Tensor(1));
  return Ok();
}

// The same elements under other sizes.
Status Reshape(const Call& c) {
  const at::Tensor& out = c.outputs[0];
  const at::Tensor& x = c.Tensor(0);
  if (out.is_contiguous()) {
    out.view(x.sizes()).copy_(x);
  } else {
    out.copy_(x.reshape(out.sizes()));
  }
  return Ok();
}

std::optional<int64_t> MaybeInt(const Call& c, size_t i) {
  return c.Has(i) ? std::optional<int64_t>(c.Int(i)) : std::nullopt;
}

Status SliceBackward(const Call& c) {  // grad, input_sizes, dim, start, end, step
  c.outputs[0].zero_();
  c.outputs[0].slice(c.Int(2), c.Int(3), c.Int(4), c.Int(5)).copy_(c.Tensor(0));
  return Ok();
}

Status SelectBackward(const Call& c) {  // grad, input_sizes, dim, index
  c.outputs[0].zero_();
  c.outputs[0].select(c.Int(2), c.Int(3)).copy_(c.Tensor(0));
  return Ok();
}

Status DiagonalBackward(const Call& c) {  // grad, input_sizes, offset, dim1, dim2
  c.outputs[0].zero_();
  c.outputs[0].diagonal(c.Int(2), c.Int(3), c.Int(4)).copy_(c.Tensor(0));
  return Ok();
}

Status SliceScatter(const Call& c) {  // self, src, dim, start, end, step
  c.outputs[0].copy_(c.Tensor(0));
  c.outputs[0].slice(c.Int(2), MaybeInt(c, 3), MaybeInt(c, 4), c.Int(5)).copy_(c.Tensor(1));
  return Ok();
}

Status SelectScatter(const Call& c) {  // self, src, dim, index
  c.outputs[0].copy_(c.Tensor(0));
  c.outputs[0].select(c.Int(2), c.Int(3)).copy_(c.Tensor(1));
  return Ok();
}

// self, pad ([before, after] of the last dim first; a negative one cuts), value.
Status ConstantPad(const Call& c) {
  at::Tensor to = c.outputs[0];
  at::Tensor from = c.Tensor(0);
  to.fill_(c.Number(2));
  const std::vector<int64_t>& pad = c.Ints(1);
  constexpr int64_t kMost = int64_t{1} << 60;
  if (std::any_of(pad.begin(), pad.end(), [](int64_t n) { return n < -kMost || n > kMost; })) return Misshapen(c, "padding of no tensor");
  for (size_t i = 0; i + 1 < pad.size(); i += 2) {
    const int64_t dim = from.dim() - 1 - static_cast<int64_t>(i / 2);
    const int64_t skip = std::max<int64_t>(-pad[i], 0);
    const int64_t rows = from.size(dim) - skip - std::max<int64_t>(-pad[i + 1], 0);
    from = from.narrow(dim, skip, rows);
    to = to.narrow(dim, std::max<int64_t>(pad[i], 0), rows);
  }
  to.copy_(from);
  return Ok();
}

// Each dim of the result is cut into pieces as long as the operand's; all get the same elements.
Status Repeat(const Call& c) {
  at::Tensor x = c.Tensor(0);
  at::Tensor pieces = c.outputs[0];
  while (x.dim() < pieces.dim()) x = x.unsqueeze(0);
  const int64_t dims = x.dim();
  if (pieces.numel() == 0) return Ok();
  for (int64_t d = 0; d < dims; ++d) pieces = pieces.unfold(d, x.size(d), x.size(d));
  pieces.copy_(x.expand_as(pieces));
  return Ok();
}

Status Stack(const Call& c) {  // tensors, dim
  const int64_t dim = c.Int(1);
  for (size_t i = 0; i < c.Tensors(0).size(); ++i) {
    c.outputs[0].select(dim, static_cast<int64_t>(i)).copy_(c.Tensors(0)[i]);
  }
  return Ok();
}

}  // namespace

void AddCopyKernels(KernelTable* table) {
  for (const char* op : {"aten.clone.default", "aten._to_copy.default", "aten.contiguous.default",
                         "aten.lift_fresh_copy.default", "aten.detach_copy.default", "aten.alias_copy.default",
                         "aten.expand_copy.default", "aten.expand.default", "autosp.vary", "autosp.stop_gradient"}) {
    table->Add(op, &Copy);
  }
  table->Add("aten.copy.default", &CopySecond);
  table->Add("aten.fill.Tensor", &CopySecond);
  for (const char* op : {"aten._unsafe_view.default", "aten.view_copy.default", "aten._reshape_copy.default",
                         "aten.view.default", "aten.reshape.default"}) {
    table->Add(op, &Reshape);
  }
  table->Add("aten.slice_backward.default", &SliceBackward);
  table->Add("aten.select_backward.default", &SelectBackward);
  table->Add("aten.diagonal_backward.default", &DiagonalBackward);
  table->Add("aten.slice_scatter.default", &SliceScatter);
  table->Add("aten.select_scatter.default", &SelectScatter);
  table->Add("aten.constant_pad_nd.default", &ConstantPad);
  table->Add("aten.repeat.default", &Repeat);
  table->Add("aten.stack.default", &Stack);
}

}  // namespace autospc::exec
