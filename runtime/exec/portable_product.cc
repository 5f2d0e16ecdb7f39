// Products of 16-bit matrices in float32: on a GPU LibTorch's own, which keep their tensor cores; elsewhere of widened
// operands, since it has CUDA kernels alone.
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"

namespace autospc::exec {
namespace {

Result<Kernel> PortableMmInFloat(const Call& call) {  // a, b, dtype
  RETURN_IF_ERROR(CheckWideProduct(call.outputs[0], call.Tensor(0), call.Tensor(1)));
  return Kernel([c = &call]() -> Status {
    at::Tensor out = c->outputs[0];
    if (out.is_cuda()) {
      at::mm_out(out, c->Tensor(0), c->Tensor(1), at::kFloat);
    } else {
      at::mm_out(out, c->Tensor(0).to(at::kFloat), c->Tensor(1).to(at::kFloat));
    }
    return Ok();
  });
}

Result<Kernel> PortableAddMmInFloat(const Call& call) {  // sum, a, b, dtype, beta, alpha: both 1, as the compiler writes it
  RETURN_IF_ERROR(CheckWideProduct(call.outputs[0], call.Tensor(1), call.Tensor(2)));
  if (call.Float(4) != 1 || call.Float(5) != 1) {
    return Error{Code::kUnsupported, "a product in float32 is added as it is", "", "compile the model again"};
  }
  return Kernel([c = &call]() -> Status {
    at::Tensor out = c->outputs[0];
    const at::Tensor& sum = c->Tensor(0);
    if (out.const_data_ptr() != sum.const_data_ptr() || out.strides() != sum.strides()) out.copy_(sum);
    if (out.is_cuda()) {
      at::addmm_out(out, out, c->Tensor(1), c->Tensor(2), at::kFloat, 1, 1);
    } else {
      out.addmm_(c->Tensor(1).to(at::kFloat), c->Tensor(2).to(at::kFloat));
    }
    return Ok();
  });
}

}  // namespace

void AddPortableProductKernels(KernelTable* table) {
  table->Add("aten.mm.dtype", &PortableMmInFloat);
  table->Add("aten.addmm.dtype", &PortableAddMmInFloat);
}

}  // namespace autospc::exec
