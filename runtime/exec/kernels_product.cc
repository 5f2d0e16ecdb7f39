// Matrix products added to a running sum: in place where the plan has put the result on the sum. LibTorch's `.out`
// overload would first copy the sum onto itself. And products of 16-bit matrices in float32, of which LibTorch has
// CUDA kernels alone.
#include <ATen/ops/addmm.h>
#include <ATen/ops/baddbmm.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <limits>

#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"

extern "C" {
// MKL's, absent where LibTorch comes with another BLAS. Layout 101: row-major; 111 and 112: as it is, transposed.
void cblas_gemm_bf16bf16f32(int, int, int, int, int, int, float, const void*, int, const void*, int, float, float*,
                            int) __attribute__((weak));
void cblas_gemm_f16f16f32(int, int, int, int, int, int, float, const void*, int, const void*, int, float, float*,
                          int) __attribute__((weak));
}

namespace autospc::exec {

// Of the product a b into out: float32 over 16 bits, and sizes that BLAS's integers hold.
Status CheckWideProduct(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b) {
  const bool narrow = a.scalar_type() == at::kBFloat16 || a.scalar_type() == at::kHalf;
  const bool dense = out.is_contiguous() || (out.dim() == 2 && out.t().is_contiguous());
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  const bool small = std::max({a.size(0), a.size(1), b.size(1), a.stride(0), a.stride(1), b.stride(0), b.stride(1)}) <= kMost;
  if (narrow && dense && small && a.scalar_type() == b.scalar_type() && out.scalar_type() == at::kFloat) return Ok();
  return Error{Code::kBadInput, "a product in float32 takes two 16-bit matrices of one type and a dense result", "", "compile the model again"};
}

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

// A matrix as BLAS takes it: row-major with a leading dimension, or the transpose of one.
struct BlasMatrix {
  at::Tensor data;
  int transposed = 111, leading = 0;

  explicit BlasMatrix(const at::Tensor& x) : data(x) {
    const auto fits = [](const at::Tensor& t, int inner, int outer) {
      return (t.stride(inner) == 1 || t.size(inner) == 1) && t.stride(outer) >= std::max<int64_t>(t.size(inner), 1);
    };
    if (fits(x, 1, 0)) {
      leading = static_cast<int>(x.stride(0));
    } else if (fits(x, 0, 1)) {
      transposed = 112;
      leading = static_cast<int>(x.stride(1));
    } else {
      data = x.contiguous();  // in the workspace
      leading = static_cast<int>(std::max<int64_t>(x.size(1), 1));
    }
  }
};

// out [m, n] float32, row-major or the transpose of that, = beta * out + a b.
void ProductInFloat(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b, float beta) {
  if (!out.is_contiguous()) return ProductInFloat(out.t(), b.t(), a.t(), beta);
  auto* gemm = a.scalar_type() == at::kBFloat16 ? cblas_gemm_bf16bf16f32 : cblas_gemm_f16f16f32;
  if (gemm == nullptr || a.size(1) == 0) {
    at::Tensor target = out;
    target.mul_(beta).addmm_(a.to(at::kFloat), b.to(at::kFloat));
    return;
  }
  const BlasMatrix x(a), y(b);
  gemm(101, x.transposed, y.transposed, static_cast<int>(a.size(0)), static_cast<int>(b.size(1)), static_cast<int>(a.size(1)),
       1.0f, x.data.const_data_ptr(), x.leading, y.data.const_data_ptr(), y.leading, beta, out.data_ptr<float>(),
       static_cast<int>(std::max<int64_t>(out.size(1), 1)));
}

Result<Kernel> MmInFloat(const Call& call) {  // a, b, dtype
  RETURN_IF_ERROR(CheckWideProduct(call.outputs[0], call.Tensor(0), call.Tensor(1)));
  return Kernel([c = &call]() -> Status {
    ProductInFloat(c->outputs[0], c->Tensor(0), c->Tensor(1), 0);
    return Ok();
  });
}

Result<Kernel> AddMmInFloat(const Call& call) {  // sum, a, b, dtype, beta, alpha: both 1, as the compiler writes it
  RETURN_IF_ERROR(CheckWideProduct(call.outputs[0], call.Tensor(1), call.Tensor(2)));
  if (call.Float(4) != 1 || call.Float(5) != 1) {
    return Error{Code::kUnsupported, "a product in float32 is added as it is", "", "compile the model again"};
  }
  return Kernel([c = &call]() -> Status {
    if (!OnItself(c->outputs[0], c->Tensor(0))) c->outputs[0].copy_(c->Tensor(0));
    ProductInFloat(c->outputs[0], c->Tensor(1), c->Tensor(2), 1);
    return Ok();
  });
}

}  // namespace

void AddProductKernels(KernelTable* table) {
  table->Add("aten.addmm.default", &AddMm);
  table->Add("aten.baddbmm.default", &BAddBmm);
}

void AddHostProductKernels(KernelTable* table) {
  table->Add("aten.mm.dtype", &MmInFloat);
  table->Add("aten.addmm.dtype", &AddMmInFloat);
}

}  // namespace autospc::exec
