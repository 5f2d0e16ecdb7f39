// What depends on a rank's number alone, by LibTorch's ops: positions, dropout by global index.
#include <ATen/ops/arange.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "runtime/exec/call.h"
#include "runtime/exec/extents.h"
#include "runtime/exec/kernel_checks.h"
#include "runtime/exec/portable.h"
#include "runtime/exec/scratch.h"

namespace autospc::exec {
namespace {

// start, step, block, valid, dtype.
Status PortablePositions(const Call& c) {
  const at::Tensor& out = c.outputs[0];
  const int64_t first = c.group().rank * c.Int(2), last = c.Int(3) - 1;
  const auto options = at::TensorOptions(out.device()).dtype(at::kLong);
  const at::Tensor at = at::arange(first, first + out.numel(), options).clamp_max_(last);
  if (c10::isIntegralType(out.scalar_type(), /*includeBool=*/true)) {
    out.copy_(at.mul(c.Int(1)).add_(c.Int(0)));
  } else {
    out.copy_(at.to(at::kDouble).mul_(c.Float(1)).add_(c.Float(0)));
  }
  return Ok();
}

// GlobalStart of runs [first, first + count): int64 [count].
at::Tensor GlobalStarts(const std::vector<Extent>& extents, int64_t first, int64_t count, c10::Device device) {
  at::Tensor run = at::arange(first, first + count, at::TensorOptions(device).dtype(at::kLong));
  at::Tensor index = at::zeros_like(run);
  int64_t weight = extents.back().global;
  for (size_t i = extents.size() - 1; i-- > 0;) {
    const Extent& e = extents[i];
    if (e.local > 1 || e.start > 0) {
      index.add_(run.remainder(e.local).add_(e.start).clamp_max_(e.global - 1), weight);
      run = run.div(e.local, "floor");
    }
    weight *= e.global;
  }
  return index;
}

// x, p, site, …
Result<Kernel> MakePortableDropout(const Call& call) {
  ASSIGN_OR_RETURN(const std::vector<Extent> extents, DropoutExtents(call));
  return Kernel([c = &call, extents]() -> Status {
    const at::Tensor& x = c->Tensor(0);
    at::Tensor out = c->outputs[0];
    const double p = c->context->dropout ? c->Float(1) : 0;
    const int64_t after = extents.back().local, runs = after > 0 ? x.numel() / after : 0;
    CallScratch scratch(*c);
    const at::Tensor dropped = scratch.Take({x.numel()}, at::kBool);  // in row-major order
    const int64_t step = std::max<int64_t>(1, kUniformsAtATime / std::max<int64_t>(after, 1));
    const auto options = at::TensorOptions(x.device()).dtype(at::kLong);
    for (int64_t first = 0; first < runs; first += step) {
      const int64_t count = std::min(step, runs - first);
      const at::Tensor starts = GlobalStarts(extents, first, count, x.device()).unsqueeze(1);
      const at::Tensor rows = dropped.narrow(0, first * after, count * after).view({count, after});
      for (int64_t column = 0; column < after; column += kUniformsAtATime) {
        const int64_t columns = std::min(kUniformsAtATime, after - column);
        const at::Tensor index = starts.add(at::arange(column, column + columns, options).unsqueeze(0));
        const at::Tensor uniform = UniformAt(c->context->seed, c->Int(2), index.view({-1}));
        rows.narrow(1, column, columns).copy_(uniform.to(at::kDouble).lt(p).view({count, columns}));
      }
    }
    at::mul_out(out, x, p < 1 ? 1.0 / (1.0 - p) : 0.0);
    out.masked_fill_(dropped.view(x.sizes()), 0);
    return Ok();
  });
}

}  // namespace

void AddPortablePlacementKernels(KernelTable* table) {
  table->Add("autosp.positions", &CheckPositions, &PortablePositions);
  table->Add("autosp.dropout", &MakePortableDropout);
}

}  // namespace autospc::exec
