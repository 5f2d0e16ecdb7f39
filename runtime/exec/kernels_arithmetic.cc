// Arithmetic whose `.out` overload is a composite that allocates, by way of one that is not.
#include <ATen/ScalarOps.h>
#include <ATen/ops/add.h>
#include <ATen/ops/amax.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_or.h>
#include <ATen/ops/bitwise_xor.h>
#include <ATen/ops/clamp_min.h>
#include <ATen/ops/div.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/floor_divide.h>
#include <ATen/ops/fmod.h>
#include <ATen/ops/isinf.h>
#include <ATen/ops/mean.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/ne.h>
#include <ATen/ops/remainder.h>
#include <ATen/ops/sub.h>
#include <ATen/ops/sum.h>

#include "runtime/exec/call.h"

namespace autospc::exec {
namespace {

// A number as the tensor that LibTorch would make of it, made once.
at::Tensor Wrapped(const c10::Scalar& number) {
  at::Tensor tensor = c10::scalar_to_tensor(number);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

// op(x, number): `run` gets out, x, the wrapped number and the call.
template <typename Run>
KernelMaker WithNumber(Run run) {
  return [run](const Call& call) -> Result<Kernel> {
    return Kernel([run, c = &call, out = call.outputs[0], number = Wrapped(call.Number(1))]() mutable -> Status {
      run(out, c->Tensor(0), number, *c);
      return Ok();
    });
  };
}

c10::Scalar AlphaOf(const Call& c) { return c.args.size() > 2 ? c.Number(2) : c10::Scalar(1); }

Status RsubTensor(const Call& c) {  // other - alpha * self
  at::Tensor out = c.outputs[0];
  at::sub_out(out, c.Tensor(1), c.Tensor(0), AlphaOf(c));
  return Ok();
}

Status Relu(const Call& c) {
  at::Tensor out = c.outputs[0];
  at::clamp_min_out(out, c.Tensor(0), 0);
  return Ok();
}

Status IsNan(const Call& c) {
  at::Tensor out = c.outputs[0];
  at::ne_out(out, c.Tensor(0), c.Tensor(0));
  return Ok();
}

Status MaskedFill(const Call& c) {  // self, mask, value (a number, or a tensor of one element)
  const at::Tensor& out = c.outputs[0];
  const at::Tensor& x = c.Tensor(0);
  if (out.data_ptr() != x.data_ptr() || out.strides() != x.strides()) out.copy_(x);
  if (c.Tensor(2).defined()) {
    out.masked_fill_(c.Tensor(1), c.Tensor(2));
  } else {
    out.masked_fill_(c.Tensor(1), c.Number(2));
  }
  return Ok();
}

std::optional<at::ScalarType> TypeAt(const Call& c, size_t i) {
  return c.Has(i) ? std::optional<at::ScalarType>(ToScalarType(c.args[i].arg->dtype)) : std::nullopt;
}

Status SumAll(const Call& c) {  // self, dtype
  at::Tensor out = c.outputs[0];
  at::sum_out(out, c.Tensor(0), at::IntArrayRef{}, false, TypeAt(c, 1));
  return Ok();
}

Status MeanAll(const Call& c) {
  at::Tensor out = c.outputs[0];
  at::mean_out(out, c.Tensor(0), at::IntArrayRef{}, false, TypeAt(c, 1));
  return Ok();
}

// self, dims, keepdim: log(sum(exp(x - max))) + max, with the exponentials in the workspace.
Status LogSumExp(const Call& c) {
  const at::Tensor& x = c.Tensor(0);
  at::Tensor out = c.outputs[0];
  const std::vector<int64_t> dims =
      c.args[1].arg->kind == program::ArgKind::Int ? std::vector<int64_t>{c.Int(1)} : c.Ints(1);
  const bool keep = c.Bool(2);
  at::Tensor top = at::amax(x, dims, /*keepdim=*/true);
  top.masked_fill_(at::isinf(top), 0);  // an infinite maximum would give inf - inf
  at::Tensor e = at::empty(x.sizes(), x.options());
  at::sub_out(e, x, top);
  e.exp_();
  at::sum_out(out, e, dims, keep);
  out.log_();
  out.add_(top.view(out.sizes()));
  return Ok();
}

}  // namespace

void AddArithmeticKernels(KernelTable* table) {
  using T = at::Tensor;
  table->Add("aten.add.Scalar",
             WithNumber([](T& o, const T& x, const T& n, const Call& c) { at::add_out(o, x, n, AlphaOf(c)); }));
  table->Add("aten.sub.Scalar",
             WithNumber([](T& o, const T& x, const T& n, const Call& c) { at::sub_out(o, x, n, AlphaOf(c)); }));
  table->Add("aten.rsub.Scalar",
             WithNumber([](T& o, const T& x, const T& n, const Call& c) { at::sub_out(o, n, x, AlphaOf(c)); }));
  table->Add("aten.mul.Scalar", WithNumber([](T& o, const T& x, const T& n, const Call&) { at::mul_out(o, x, n); }));
  table->Add("aten.div.Scalar", WithNumber([](T& o, const T& x, const T& n, const Call&) { at::div_out(o, x, n); }));
  table->Add("aten.div.Scalar_mode", WithNumber([](T& o, const T& x, const T& n, const Call& c) {
               at::div_out(o, x, n, c.Has(2) ? std::optional<std::string_view>(c.String(2)) : std::nullopt);
             }));
  table->Add("aten.remainder.Scalar",
             WithNumber([](T& o, const T& x, const T& n, const Call&) { at::remainder_out(o, x, n); }));
  table->Add("aten.fmod.Scalar", WithNumber([](T& o, const T& x, const T& n, const Call&) { at::fmod_out(o, x, n); }));
  table->Add("aten.floor_divide.Scalar",
             WithNumber([](T& o, const T& x, const T& n, const Call&) { at::floor_divide_out(o, x, n); }));
  table->Add("aten.bitwise_and.Scalar",
             WithNumber([](T& o, const T& x, const T& n, const Call&) { at::bitwise_and_out(o, x, n); }));
  table->Add("aten.bitwise_or.Scalar",
             WithNumber([](T& o, const T& x, const T& n, const Call&) { at::bitwise_or_out(o, x, n); }));
  table->Add("aten.bitwise_xor.Scalar",
             WithNumber([](T& o, const T& x, const T& n, const Call&) { at::bitwise_xor_out(o, x, n); }));
  table->Add("aten.rsub.Tensor", &RsubTensor);
  table->Add("aten.relu.default", &Relu);
  table->Add("aten.isnan.default", &IsNan);
  table->Add("aten.masked_fill.Scalar", &MaskedFill);
  table->Add("aten.masked_fill.Tensor", &MaskedFill);
  table->Add("aten.sum.default", &SumAll);
  table->Add("aten.mean.default", &MeanAll);
  table->Add("aten.logsumexp.default", &LogSumExp);
}

}  // namespace autospc::exec
