// Layer norm and its backward pass by LibTorch's ops, some rows at a time in float32 (float64 for float64).
#include <ATen/ops/mean.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>

#include <algorithm>

#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"
#include "runtime/exec/portable.h"
#include "runtime/exec/scratch.h"

namespace autospc::exec {
namespace {

at::ScalarType WideType(const at::Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

// Rows of `n` elements, of tensors whose elements are as many rows or one: [rows, n] views of buffers.
struct NormRows {
  NormRows(CallScratch* scratch, const at::Tensor& x, int64_t length)
      : n(length), rows(n > 0 ? x.numel() / n : 0), step(std::clamp<int64_t>(kPortableSpan / std::max<int64_t>(n, 1), 1, std::max<int64_t>(rows, 1))),
        type(WideType(x)), scratch_(scratch) {}

  at::Tensor Buffer() const { return scratch_->Take({step, n}, type); }
  at::Tensor Column() const { return scratch_->Take({step, 1}, type); }
  at::Tensor Row() const { return scratch_->Take({n}, type); }
  // run(first row, rows)
  template <typename Run>
  void ForEach(const Run& run) const {
    for (int64_t first = 0; first < rows; first += step) run(first, std::min(step, rows - first));
  }
  // Rows [first, first + count) of x in `buffer`.
  at::Tensor Load(const at::Tensor& x, int64_t first, int64_t count, const at::Tensor& buffer) const {
    const int64_t width = buffer.size(1);
    CopyElementsTo(x, first * width, (first + count) * width, buffer.view({-1}).narrow(0, 0, count * width));
    return buffer.narrow(0, 0, count);
  }
  const int64_t n, rows, step;
  const at::ScalarType type;

 private:
  CallScratch* scratch_;
};

int64_t NormLength(const std::vector<int64_t>& sizes) {
  int64_t n = 1;
  for (const int64_t s : sizes) n *= s;
  return n;
}

// A result row by row: where it lies if it is contiguous, else in a copy that Finish brings there.
class RowsOut {
 public:
  RowsOut(CallScratch* scratch, const at::Tensor& out, int64_t width) : out_(out) {
    if (!out.defined()) return;
    dense_ = out.is_contiguous() ? out : scratch->Take(out.sizes(), out.scalar_type());
    rows_ = dense_.view({-1, width});
  }
  bool wanted() const { return out_.defined(); }
  at::Tensor At(int64_t first, int64_t count) const { return rows_.narrow(0, first, count); }
  void Finish() const {
    if (out_.defined() && !dense_.is_same(out_)) out_.copy_(dense_);
  }

 private:
  at::Tensor out_, dense_, rows_;
};

at::Tensor WideRow(const at::Tensor& t, const at::Tensor& buffer) {
  if (!t.defined()) return t;
  buffer.view(t.sizes()).copy_(t);
  return buffer;
}

// input, normalized_shape, weight, bias, eps: out, mean, rstd.
Status PortableLayerNorm(const Call& c) {
  CallScratch scratch(c);
  const at::Tensor& x = c.Tensor(0);
  const NormRows rows(&scratch, x, NormLength(c.Ints(1)));
  const RowsOut out(&scratch, c.outputs[0], rows.n), mean(&scratch, c.outputs[1], 1), rstd(&scratch, c.outputs[2], 1);
  const at::Tensor values = rows.Buffer(), squares = rows.Buffer(), mu_buffer = rows.Column(), var_buffer = rows.Column();
  const at::Tensor weight = WideRow(c.Tensor(2), rows.Row()), bias = WideRow(c.Tensor(3), rows.Row());
  rows.ForEach([&](int64_t first, int64_t count) {
    const at::Tensor d = rows.Load(x, first, count, values);
    at::Tensor square = squares.narrow(0, 0, count), mu = mu_buffer.narrow(0, 0, count), var = var_buffer.narrow(0, 0, count);
    at::mean_out(mu, d, {1}, /*keepdim=*/true);
    d.sub_(mu);
    at::mul_out(square, d, d);
    at::mean_out(var, square, {1}, /*keepdim=*/true);
    var.add_(c.Float(4)).rsqrt_();
    if (mean.wanted()) mean.At(first, count).copy_(mu);
    if (rstd.wanted()) rstd.At(first, count).copy_(var);
    if (!out.wanted()) return;
    d.mul_(var);
    if (weight.defined()) d.mul_(weight);
    if (bias.defined()) d.add_(bias);
    out.At(first, count).copy_(d);
  });
  out.Finish(), mean.Finish(), rstd.Finish();
  return Ok();
}

// grad_out, input, normalized_shape, mean, rstd, weight, bias, output_mask: dx, dweight, dbias.
Status PortableLayerNormBackward(const Call& c) {
  CallScratch scratch(c);
  const at::Tensor &grad = c.Tensor(0), &x = c.Tensor(1);
  const NormRows rows(&scratch, x, NormLength(c.Ints(2)));
  // A result that the mask leaves out has a tensor without elements in its place.
  const auto wanted = [&](size_t i) { return c.Ints(7).at(i) != 0 ? c.outputs[i] : at::Tensor(); };
  const RowsOut dx(&scratch, wanted(0), rows.n);
  const at::Tensor dw = wanted(1), db = wanted(2);
  const at::Tensor gradients = rows.Buffer(), normed = rows.Buffer(), products = rows.Buffer();
  const at::Tensor mu = rows.Column(), rs = rows.Column(), a = rows.Column(), b = rows.Column();
  const at::Tensor weight = WideRow(c.Tensor(5), rows.Row()), weight_sum = rows.Row(), bias_sum = rows.Row();
  at::Tensor of_rows = rows.Row();
  weight_sum.zero_(), bias_sum.zero_();
  rows.ForEach([&](int64_t first, int64_t count) {
    const at::Tensor g = rows.Load(grad, first, count, gradients), h = rows.Load(x, first, count, normed);
    const at::Tensor mean = rows.Load(c.Tensor(3), first, count, mu), rstd = rows.Load(c.Tensor(4), first, count, rs);
    at::Tensor product = products.narrow(0, 0, count), of_g = a.narrow(0, 0, count), of_h = b.narrow(0, 0, count);
    h.sub_(mean).mul_(rstd);
    if (dw.defined()) {
      at::mul_out(product, g, h);
      at::sum_out(of_rows, product, at::IntArrayRef{0});
      weight_sum.add_(of_rows);
    }
    if (db.defined()) {
      at::sum_out(of_rows, g, at::IntArrayRef{0});
      bias_sum.add_(of_rows);
    }
    if (!dx.wanted()) return;
    if (weight.defined()) g.mul_(weight);
    at::mean_out(of_g, g, {1}, /*keepdim=*/true);
    at::mul_out(product, g, h);
    at::mean_out(of_h, product, {1}, /*keepdim=*/true);
    dx.At(first, count).copy_(g.sub_(of_g).sub_(h.mul_(of_h)).mul_(rstd));
  });
  if (dw.defined()) dw.copy_(weight_sum.view(dw.sizes()));
  if (db.defined()) db.copy_(bias_sum.view(db.sizes()));
  dx.Finish();
  return Ok();
}

}  // namespace

void AddPortableNormKernels(KernelTable* table) {
  table->Add("aten.native_layer_norm.default", &CheckLayerNorm, &PortableLayerNorm);
  table->Add("aten.native_layer_norm_backward.default", &CheckLayerNormBackward, &PortableLayerNormBackward);
}

}  // namespace autospc::exec
