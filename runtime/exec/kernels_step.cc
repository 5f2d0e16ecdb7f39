// The step: the gradient norm, fused updates.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "runtime/exec/blocks.h"
#include "runtime/exec/call.h"
#include "runtime/exec/kernel_checks.h"

namespace autospc::exec {
namespace {

constexpr int64_t kParts = 64;  // of a tensor; the same ones whatever the number of threads

template <typename T>
double SumOfSquares(const T* x, int64_t n) {
  double parts[kParts] = {};
  const int64_t part = (n + kParts - 1) / kParts;
  at::parallel_for(0, kParts, std::max<int64_t>(1, 32768 / std::max<int64_t>(part, 1)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t p = begin; p < end; ++p) {
                       double lanes[4] = {};
                       int64_t i = std::min(n, p * part);
                       const int64_t stop = std::min(n, i + part);
                       for (; i + 4 <= stop; i += 4) {
                         for (int l = 0; l < 4; ++l) {
                           const double v = static_cast<double>(x[i + l]);
                           lanes[l] += v * v;
                         }
                       }
                       for (; i < stop; ++i) lanes[0] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
                       parts[p] = (lanes[0] + lanes[1]) + (lanes[2] + lanes[3]);
                     }
                   });
  double sum = 0;
  for (double p : parts) sum += p;
  return sum;
}

double TotalOfSquares(const std::vector<at::Tensor>& tensors) {
  double sum = 0;
  for (const at::Tensor& g : tensors) {
    at::Tensor dense = g;
    if (!g.is_non_overlapping_and_dense()) {
      dense = at::empty(g.sizes(), g.options());
      dense.copy_(g);
    }
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, g.scalar_type(), "grad_norm",
                                    [&] { sum += SumOfSquares(dense.const_data_ptr<scalar_t>(), dense.numel()); });
  }
  return sum;
}

}  // namespace

Status CheckNorm(const Call& c) {
  return HasElements(c.outputs[0], 1) ? Ok() : Status(Misshapen(c, "its result is one number"));
}

Status CheckClip(const Call& c) {
  RETURN_IF_ERROR(CheckNorm(c));
  return HasElements(c.Tensor(0), 1) ? Ok() : Status(Misshapen(c, "a norm is one number"));
}

namespace {

Status SumOfSquares(const Call& c) {
  *c.outputs[0].data_ptr<double>() = TotalOfSquares(c.Tensors(0));
  return Ok();
}

Status GradNorm(const Call& c) {
  *c.outputs[0].data_ptr<double>() = std::sqrt(TotalOfSquares(c.Tensors(0)));
  return Ok();
}

Status ClipCoefficient(const Call& c) {  // norm, max_norm
  const double coefficient = c.Float(1) / (*c.Tensor(0).const_data_ptr<double>() + 1e-6);
  *c.outputs[0].data_ptr<double>() = coefficient > 1 ? 1 : coefficient;  // a NaN stays one
  return Ok();
}

// `n` elements, `stride` apart, between memory of any float type and a buffer of the computation's type.
template <typename C>
void Load(const at::Tensor& t, int64_t offset, int64_t stride, int64_t n, C* to) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, t.scalar_type(), "load", [&] {
    const scalar_t* p = t.const_data_ptr<scalar_t>() + offset;
    for (int64_t i = 0; i < n; ++i) to[i] = static_cast<C>(p[i * stride]);
  });
}

template <typename C>
void Store(const at::Tensor& t, int64_t offset, int64_t n, const C* from) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, t.scalar_type(), "store", [&] {
    scalar_t* p = t.data_ptr<scalar_t>() + offset;
    for (int64_t i = 0; i < n; ++i) p[i] = static_cast<scalar_t>(from[i]);
  });
}

constexpr int64_t kRun = 512;  // elements of one call of the update

// Calls run(offset, gradient offset, gradient stride, n) over the parameter's elements in the order of its
// memory, n <= kRun, in parallel. The gradient may be laid out otherwise (a transposed weight): runs are then short and
// go down its columns.
template <typename Run>
void ForRuns(const at::Tensor& p, const at::Tensor& g, const Run& run) {
  if (p.strides() == g.strides()) {
    const int64_t n = p.numel();
    at::parallel_for(0, (n + kRun - 1) / kRun, 64, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) run(b * kRun, b * kRun, int64_t{1}, std::min(kRun, n - b * kRun));
    });
    return;
  }
  // p is row-major (checked at load): rows of its last dim, in tiles of rows and columns that stay in cache.
  constexpr int64_t kTile = 64;
  const int64_t width = p.dim() == 0 ? 1 : p.size(-1), rows = p.numel() / std::max<int64_t>(width, 1);
  const int64_t step = p.dim() == 0 ? 1 : g.stride(-1);
  auto row_offset = [&](int64_t row) {
    int64_t offset = 0;
    for (int64_t d = p.dim() - 2; d >= 0; --d) {
      offset += row % p.size(d) * g.stride(d);
      row /= p.size(d);
    }
    return offset;
  };
  const int64_t row_tiles = (rows + kTile - 1) / kTile, column_tiles = (width + kTile - 1) / kTile;
  at::parallel_for(0, row_tiles * column_tiles, 8, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t col = t % column_tiles * kTile, n = std::min(kTile, width - col);
      for (int64_t r = t / column_tiles * kTile; r < std::min(rows, (t / column_tiles + 1) * kTile); ++r) {
        run(r * width + col, row_offset(r) + col * step, step, n);
      }
    }
  });
}

double ScalarAt(const at::Tensor& t) {
  return t.scalar_type() == at::kLong ? static_cast<double>(*t.const_data_ptr<int64_t>()) : *t.const_data_ptr<double>();
}

// torch.optim's _single_tensor_adamw, operation by operation.
template <typename C>
Status AdamW(const Call& c) {
  const at::Tensor &p = c.Tensor(0), &master = c.Tensor(1), &g = c.Tensor(2), &m = c.Tensor(3), &v = c.Tensor(4);
  const double lr = ScalarAt(c.Tensor(6)), step = ScalarAt(c.Tensor(7));
  const double beta1 = c.Float(8), beta2 = c.Float(9);
  const double correction1 = 1 - std::pow(beta1, step), correction2 = 1 - std::pow(beta2, step);
  const C clip = c.Has(5) ? static_cast<C>(*c.Tensor(5).const_data_ptr<double>()) : C(1);
  const bool clipped = c.Has(5);
  const C decay = static_cast<C>(1 - lr * c.Float(11)), eps = static_cast<C>(c.Float(10));
  const C lerp = static_cast<C>(1 - beta1), keep = static_cast<C>(beta2), add = static_cast<C>(1 - beta2);
  const C root2 = static_cast<C>(std::sqrt(correction2)), size = static_cast<C>(-lr / correction1);
  const at::Tensor& weight = master.defined() ? master : p;
  ForRuns(weight, g, [&](int64_t at, int64_t g_at, int64_t g_stride, int64_t n) {
    C w[kRun], d[kRun], mean[kRun], square[kRun];
    Load(weight, at, 1, n, w);
    Load(g, g_at, g_stride, n, d);
    Load(m, at, 1, n, mean);
    Load(v, at, 1, n, square);
    for (int64_t i = 0; i < n; ++i) {
      const C grad = clipped ? d[i] * clip : d[i];
      w[i] *= decay;
      mean[i] = mean[i] + lerp * (grad - mean[i]);
      square[i] = square[i] * keep + add * grad * grad;
      const C denominator = std::sqrt(square[i]) / root2 + eps;
      w[i] = w[i] + size * mean[i] / denominator;
    }
    Store(m, at, n, mean);
    Store(v, at, n, square);
    Store(weight, at, n, w);
    if (master.defined()) Store(p, at, n, w);
  });
  return Ok();
}

// p, master, g, clip, lr, weight_decay: torch.optim.SGD without momentum.
template <typename C>
Status Sgd(const Call& c) {
  const at::Tensor &p = c.Tensor(0), &master = c.Tensor(1), &g = c.Tensor(2);
  const C clip = c.Has(3) ? static_cast<C>(*c.Tensor(3).const_data_ptr<double>()) : C(1);
  const bool clipped = c.Has(3);
  const C rate = static_cast<C>(-ScalarAt(c.Tensor(4))), decay = static_cast<C>(c.Float(5));
  const at::Tensor& weight = master.defined() ? master : p;
  ForRuns(weight, g, [&](int64_t at, int64_t g_at, int64_t g_stride, int64_t n) {
    C w[kRun], d[kRun];
    Load(weight, at, 1, n, w);
    Load(g, g_at, g_stride, n, d);
    for (int64_t i = 0; i < n; ++i) {
      C grad = clipped ? d[i] * clip : d[i];
      if (decay != 0) grad = grad + decay * w[i];
      w[i] = w[i] + rate * grad;
    }
    Store(weight, at, n, w);
    if (master.defined()) Store(p, at, n, w);
  });
  return Ok();
}

// The clip coefficient, the learning rate and AdamW's step are one number each.
Status CheckScalars(const Call& call, std::initializer_list<size_t> scalars) {
  for (const size_t i : scalars) {
    const at::Tensor& t = call.Tensor(i);
    if (call.Has(i) && !HasElements(t, 1)) return Misshapen(call, "learning rate, step and clipping are one number each");
  }
  return Ok();
}

Status CheckScalars(const Call& call) {
  return call.instruction->op.starts_with("autosp.adamw") ? CheckScalars(call, {5, 6, 7}) : CheckScalars(call, {3, 4});
}

}  // namespace

KernelMaker UpdateKernel(std::vector<size_t> alike, Status (*in_float)(const Call&), Status (*in_double)(const Call&)) {
  return [=](const Call& call) -> Result<Kernel> {
    RETURN_IF_ERROR(CheckScalars(call));
    const at::Tensor &p = call.Tensor(0), &g = call.Tensor(2);
    if (g.sizes() != p.sizes() || !c10::isFloatingType(g.scalar_type())) return Misshapen(call, "a gradient of another shape");
    for (size_t i : alike) {
      const at::Tensor& t = call.Tensor(i);
      if (!t.defined()) continue;
      if (!t.is_contiguous() || t.sizes() != p.sizes() || !c10::isFloatingType(t.scalar_type())) {
        return Error{Code::kBadInput, "an optimiser needs row-major float parameters and states of one shape", "",
                     "compile the model again"};
      }
    }
    auto* run = p.scalar_type() == at::kDouble ? in_double : in_float;
    return Kernel([run, c = &call] { return run(*c); });
  };
}

KernelMaker ShardUpdateKernel(std::vector<size_t> blocks, Status (*in_float)(const Call&), Status (*in_double)(const Call&)) {
  return [=](const Call& call) -> Result<Kernel> {
    RETURN_IF_ERROR(CheckScalars(call));
    const at::Tensor& p = call.Tensor(0);
    const int64_t n = p.numel(), block = BlockLength(n, call.context->world_size);
    bool right = p.is_contiguous() && c10::isFloatingType(p.scalar_type());
    for (size_t i : blocks) {
      const at::Tensor& t = call.Tensor(i);
      right =
          right && (!t.defined() || (t.is_contiguous() && t.numel() == block && c10::isFloatingType(t.scalar_type())));
    }
    if (!right) {
      return Error{Code::kBadInput, "an optimiser's states and gradients must be as long as the parameter's block", "",
                   "compile the model again"};
    }
    const int64_t begin = std::min(n, call.context->rank * block), have = std::min(block, n - begin);
    auto own = std::make_shared<Call>(call);
    own->args[0].tensor = p.view({n}).narrow(0, begin, have);
    for (size_t i : blocks) {
      at::Tensor& t = own->args[i].tensor;
      if (t.defined()) t = t.view({block}).narrow(0, 0, have);
    }
    auto* run = p.scalar_type() == at::kDouble ? in_double : in_float;
    return Kernel([run, own] { return run(*own); });
  };
}

void AddStepKernels(KernelTable* table) {
  table->Add("autosp.grad_norm", &CheckNorm, &GradNorm);
  table->Add("autosp.sum_of_squares", &CheckNorm, &SumOfSquares);
  table->Add("autosp.clip_coefficient", &CheckClip, &ClipCoefficient);
  table->Add("autosp.adamw_", UpdateKernel({0, 1, 3, 4}, &AdamW<float>, &AdamW<double>));
  table->Add("autosp.sgd_", UpdateKernel({0, 1}, &Sgd<float>, &Sgd<double>));
  table->Add("autosp.adamw_shard_", ShardUpdateKernel({1, 2, 3, 4}, &AdamW<float>, &AdamW<double>));
  table->Add("autosp.sgd_shard_", ShardUpdateKernel({1, 2}, &Sgd<float>, &Sgd<double>));
}

}  // namespace autospc::exec
