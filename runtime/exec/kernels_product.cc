// Matrix products added to a running sum: in place where the plan has put the result on the sum. LibTorch's `.out`
// overload would first copy the sum onto itself.
#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>

#include "runtime/exec/call.h"

namespace autospc::exec {
namespace {

bool OnItself(const at::Tensor& out, const at::Tensor& sum) {
  return out.const_data_ptr() == sum.const_data_ptr() && out.sizes() == sum.sizes() && out.strides() == sum.strides();
}

Status AddMm(const Call& c) {  // sum, a, b, beta, alpha
  at::Tensor out = c.outputs[0];
  if (OnItself(out, c.Tensor(0))) {
    out.addmm_(c.Tensor(1), c.Tensor(2), c.Number(3), c.Number(4));
  } else {
    at::addmm_out(out, c.Tensor(0), c.Tensor(1), c.Tensor(2), c.Number(3), c.Number(4));
  }
  return Ok();
}

Status BAddBmm(const Call& c) {
  at::Tensor out = c.outputs[0];
  if (OnItself(out, c.Tensor(0))) {
    out.baddbmm_(c.Tensor(1), c.Tensor(2), c.Number(3), c.Number(4));
  } else {
    at::baddbmm_out(out, c.Tensor(0), c.Tensor(1), c.Tensor(2), c.Number(3), c.Number(4));
  }
  return Ok();
}

}  // namespace

void AddProductKernels(KernelTable* table) {
  table->Add("aten.addmm.default", &AddMm);
  table->Add("aten.baddbmm.default", &BAddBmm);
}

}  // namespace autospc::exec
