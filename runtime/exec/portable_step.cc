// The step by LibTorch's ops: the gradient norm, fused updates. Everything stays on the device, the learning rate and the
// step's number too: no kernel waits for another's result.
#include <ATen/ops/add.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/pow.h>
#include <ATen/ops/reciprocal.h>
#include <ATen/ops/sqrt.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>

#include <algorithm>

#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"
#include "runtime/exec/portable.h"
#include "runtime/exec/scratch.h"

namespace autospc::exec {
namespace {

// total (float64 []) = the sum of squares of all tensors' elements, each squared and added up in float64.
void AddUpSquares(const Call& c, at::Tensor total) {
  CallScratch scratch(c);
  int64_t longest = 1;
  for (const at::Tensor& g : c.Tensors(0)) longest = std::max(longest, g.numel());
  const at::Tensor wide = scratch.Take({std::min(longest, kPortableSpan)}, at::kDouble), sum = scratch.Take({}, at::kDouble);
  total.zero_();
  for (const at::Tensor& g : c.Tensors(0)) {
    for (int64_t begin = 0; begin < g.numel(); begin += kPortableSpan) {
      const int64_t end = std::min(g.numel(), begin + kPortableSpan);
      at::Tensor part = wide.narrow(0, 0, end - begin), one = sum;
      CopyElementsTo(g, begin, end, part);
      part.mul_(part);
      at::sum_out(one, part, at::IntArrayRef{0});
      total.add_(one);
    }
  }
}

Status PortableSumOfSquares(const Call& c) {
  AddUpSquares(c, c.outputs[0].view(at::IntArrayRef()));
  return Ok();
}

Status PortableGradNorm(const Call& c) {
  at::Tensor norm = c.outputs[0].view(at::IntArrayRef());
  AddUpSquares(c, norm);
  norm.sqrt_();
  return Ok();
}

Status PortableClip(const Call& c) {  // norm, max_norm
  at::Tensor out = c.outputs[0].view(at::IntArrayRef());
  at::add_out(out, c.Tensor(0).view(at::IntArrayRef()), 1e-6);
  out.reciprocal_().mul_(c.Float(1)).clamp_max_(1);  // a NaN stays one
  return Ok();
}

// Row r of a tensor of any dims; the whole, as one row, of one without.
at::Tensor Rows(const at::Tensor& t, int64_t first, int64_t count) {
  return t.dim() == 0 ? t.unsqueeze(0) : t.narrow(0, first, count);
}

// Scratch of an update, each as long as a stretch of rows. In the computation's type.
struct Buffers {
  at::Tensor weight, gradient, mean, square, change, denominator;
};

// A stretch of one operand in the computation's type: where it lies, or a copy in `buffer`.
class Widened {
 public:
  Widened(const at::Tensor& at, const at::Tensor& buffer) : at_(at), value_(at) {
    if (at.scalar_type() == buffer.scalar_type()) return;
    value_ = buffer.narrow(0, 0, at.numel()).view(at.sizes());
    value_.copy_(at);
  }
  at::Tensor& value() { return value_; }
  void Store() {
    if (!value_.is_same(at_)) at_.copy_(value_);
  }

 private:
  at::Tensor at_, value_;
};

// Calls run(stretch of a tensor, its first row, rows) over stretches of rows of at most kPortableSpan elements where a row
// is not longer.
template <typename Run>
void ForStretches(const at::Tensor& p, const Run& run) {
  if (p.numel() == 0) return;
  const int64_t rows = p.dim() == 0 ? 1 : p.size(0), width = p.numel() / rows;
  const int64_t step = std::clamp<int64_t>(kPortableSpan / width, 1, rows);
  for (int64_t first = 0; first < rows; first += step) run(first, std::min(step, rows - first));
}

int64_t StretchLength(const at::Tensor& p) {
  if (p.dim() == 0 || p.numel() == 0) return p.numel();
  return std::min(p.numel(), std::max(kPortableSpan, p.numel() / p.size(0)));
}

// g times clip (float64 [] or none), into `buffer`, laid out row-major.
at::Tensor Clipped(const at::Tensor& g, const at::Tensor& clip, const at::Tensor& buffer) {
  at::Tensor d = buffer.narrow(0, 0, g.numel()).view(g.sizes());
  d.copy_(g);
  if (clip.defined()) d.mul_(clip);
  return d;
}

at::Tensor Scalar64(const at::Tensor& t) { return t.view(at::IntArrayRef()).to(at::kDouble); }
at::Tensor ClipOf(const Call& c, size_t i) { return c.Has(i) ? c.Tensor(i).view(at::IntArrayRef()) : at::Tensor(); }

// torch.optim's _single_tensor_adamw, operation by operation, in the same order as the host's kernel.
template <at::ScalarType kType>
Status PortableAdamW(const Call& c) {
  const at::Tensor &p = c.Tensor(0), &master = c.Tensor(1), &g = c.Tensor(2), &m = c.Tensor(3), &v = c.Tensor(4);
  const at::Tensor& weight = master.defined() ? master : p;
  const at::Tensor clip = ClipOf(c, 5), lr = Scalar64(c.Tensor(6)), step = Scalar64(c.Tensor(7));
  const double beta1 = c.Float(8), beta2 = c.Float(9), eps = c.Float(10);
  // float64 [], on the device.
  const at::Tensor decay = lr.mul(-c.Float(11)).add_(1);
  const at::Tensor size = lr.div(at::pow(beta1, step).sub_(1));  // -lr / (1 - beta1^step)
  const at::Tensor root2 = at::pow(beta2, step).neg_().add_(1).sqrt_();
  CallScratch scratch(c);
  const int64_t length = StretchLength(p);
  const auto buffer = [&] { return scratch.Take({length}, kType); };
  Buffers b{buffer(), buffer(), buffer(), buffer(), buffer(), buffer()};
  ForStretches(p, [&](int64_t first, int64_t rows) {
    const auto part = [&](const at::Tensor& t) { return Rows(t, first, rows); };
    Widened w(part(weight), b.weight), mean(part(m), b.mean), square(part(v), b.square);
    const at::Tensor d = Clipped(part(g), clip, b.gradient);
    const auto like = [&](const at::Tensor& t) { return t.narrow(0, 0, d.numel()).view(d.sizes()); };
    at::Tensor change = like(b.change), denominator = like(b.denominator);
    w.value().mul_(decay);
    at::sub_out(change, d, mean.value());
    mean.value().add_(change, 1 - beta1);
    square.value().mul_(beta2).addcmul_(d, d, 1 - beta2);
    at::sqrt_out(denominator, square.value());
    denominator.div_(root2).add_(eps);
    at::mul_out(change, mean.value(), size);
    w.value().add_(change.div_(denominator));
    mean.Store(), square.Store(), w.Store();
    if (master.defined()) part(p).copy_(w.value());
  });
  return Ok();
}

// p, master, g, clip, lr, weight_decay: torch.optim.SGD without momentum.
template <at::ScalarType kType>
Status PortableSgd(const Call& c) {
  const at::Tensor &p = c.Tensor(0), &master = c.Tensor(1), &g = c.Tensor(2);
  const at::Tensor& weight = master.defined() ? master : p;
  const at::Tensor clip = ClipOf(c, 3), rate = Scalar64(c.Tensor(4)).neg();
  const double decay = c.Float(5);
  CallScratch scratch(c);
  const int64_t length = StretchLength(p);
  const at::Tensor weights = scratch.Take({length}, kType), gradients = scratch.Take({length}, kType);
  ForStretches(p, [&](int64_t first, int64_t rows) {
    Widened w(Rows(weight, first, rows), weights);
    at::Tensor d = Clipped(Rows(g, first, rows), clip, gradients);
    if (decay != 0) d.add_(w.value(), decay);
    w.value().add_(d.mul_(rate));
    w.Store();
    if (master.defined()) Rows(p, first, rows).copy_(w.value());
  });
  return Ok();
}

}  // namespace

void AddPortableStepKernels(KernelTable* table) {
  constexpr auto kFloat = at::kFloat, kDouble = at::kDouble;
  table->Add("autosp.grad_norm", &CheckNorm, &PortableGradNorm);
  table->Add("autosp.sum_of_squares", &CheckNorm, &PortableSumOfSquares);
  table->Add("autosp.clip_coefficient", &CheckClip, &PortableClip);
  table->Add("autosp.adamw_", UpdateKernel({0, 1, 3, 4}, &PortableAdamW<kFloat>, &PortableAdamW<kDouble>));
  table->Add("autosp.sgd_", UpdateKernel({0, 1}, &PortableSgd<kFloat>, &PortableSgd<kDouble>));
  table->Add("autosp.adamw_shard_", ShardUpdateKernel({1, 2, 3, 4}, &PortableAdamW<kFloat>, &PortableAdamW<kDouble>));
  table->Add("autosp.sgd_shard_", ShardUpdateKernel({1, 2}, &PortableSgd<kFloat>, &PortableSgd<kDouble>));
}

}  // namespace autospc::exec
