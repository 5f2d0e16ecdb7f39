// Conversions and per-rank values that need no other rank: what a rank computes depends on its number alone.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <array>
#include <vector>

#include "runtime/exec/call.h"
#include "runtime/exec/extents.h"
#include "runtime/exec/kernel_checks.h"
#include "runtime/exec/philox.h"

namespace autospc::exec {

namespace {
constexpr int64_t kMostRows = int64_t{1} << 40;  // of a factor: products with a rank's number stay within 64 bits
}  // namespace

Status CheckPositions(const Call& c) {
  const bool bounded = c.Int(2) >= 0 && c.Int(2) <= kMostRows && c.Int(3) >= 1 && c.Int(3) <= kMostRows;
  if (bounded && c.outputs[0].defined() && c.outputs[0].dim() == 1) return Ok();
  return Misshapen(c, "no vector of positions of a factor");
}

namespace {

bool SamePlace(const at::Tensor& a, const at::Tensor& b) {
  return a.data_ptr() == b.data_ptr() && a.strides() == b.strides();
}

// Rows of this rank that are no padding.
int64_t ValidRows(const Call& c, int64_t block, int64_t valid) {
  return std::clamp<int64_t>(valid - c.group().rank * block, 0, block);
}

Status First(const Call& c) {
  if (c.group().rank != 0) {
    c.outputs[0].zero_();
  } else if (!SamePlace(c.outputs[0], c.Tensor(0))) {
    c.outputs[0].copy_(c.Tensor(0));
  }
  return Ok();
}

// x, dim, valid, fill.
Status Mask(const Call& c) {
  const at::Tensor& x = c.Tensor(0);
  const at::Tensor& out = c.outputs[0];
  const int64_t dim = c.Int(1), block = x.size(dim);
  const int64_t have = ValidRows(c, block, c.Int(2));
  if (have > 0 && !SamePlace(out, x)) out.narrow(dim, 0, have).copy_(x.narrow(dim, 0, have));
  if (have < block) out.narrow(dim, have, block - have).fill_(c.Number(3));
  return Ok();
}

// start, step, block, valid, dtype.
Status Positions(const Call& c) {
  const at::Tensor& out = c.outputs[0];
  const int64_t first = c.group().rank * c.Int(2), last = c.Int(3) - 1;
  if (c10::isIntegralType(out.scalar_type(), /*includeBool=*/true)) {
    AT_DISPATCH_INTEGRAL_TYPES_AND(at::kBool, out.scalar_type(), "positions", [&] {
      scalar_t* p = out.data_ptr<scalar_t>();
      for (int64_t i = 0; i < out.numel(); ++i) {
        // Wraps around, as integer tensors do.
        const uint64_t value = static_cast<uint64_t>(c.Int(0)) + static_cast<uint64_t>(c.Int(1)) * static_cast<uint64_t>(std::min(first + i, last));
        p[i * out.stride(0)] = static_cast<scalar_t>(value);
      }
    });
  } else {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, out.scalar_type(), "positions", [&] {
      scalar_t* p = out.data_ptr<scalar_t>();
      for (int64_t i = 0; i < out.numel(); ++i) {
        p[i * out.stride(0)] =
            static_cast<scalar_t>(c.Float(0) + c.Float(1) * static_cast<double>(std::min(first + i, last)));
      }
    });
  }
  return Ok();
}

// The element of a row-major tensor of these sizes at linear index i, as an offset in memory.
int64_t Offset(int64_t i, at::IntArrayRef sizes, at::IntArrayRef strides) {
  int64_t offset = 0;
  for (size_t d = sizes.size(); d-- > 0;) {
    offset += i % sizes[d] * strides[d];
    i /= sizes[d];
  }
  return offset;
}

// x, p, site, …: each run of consecutive elements after the last split dim has consecutive global indices.
template <typename T>
void DropoutRuns(const Call& c, const std::vector<Extent>& extents, const at::Tensor& x, const at::Tensor& out) {
  using Acc = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const double p = c.context->dropout ? c.Float(1) : 0;
  const Acc scale = p < 1 ? static_cast<Acc>(1.0 / (1.0 - p)) : Acc(0);
  const int64_t site = c.Int(2), after = extents.back().local;
  const uint64_t seed = c.context->seed;
  const int64_t runs = after > 0 ? x.numel() / after : 0;
  const bool flat = x.is_contiguous() && out.is_contiguous();
  const T* from = x.const_data_ptr<T>();
  T* to = out.data_ptr<T>();
  constexpr int64_t kSpan = 4096;  // elements of a task
  const int64_t spans = (after + kSpan - 1) / kSpan;
  at::parallel_for(0, runs * spans, 4, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t run = task / spans, start = task % spans * kSpan, stop = std::min(after, start + kSpan);
      const uint64_t first = GlobalStart(extents, run);
      std::array<uint32_t, 4> words{};
      uint64_t at_block = ~uint64_t{0};
      for (int64_t e = start; e < stop; ++e) {
        const uint64_t index = first + static_cast<uint64_t>(e);
        if (index >> 2 != at_block) {
          at_block = index >> 2;
          words = PhiloxBlock(seed, site, at_block);
        }
        const bool keep = UniformFromWord(words[index & 3]) >= p;
        const int64_t linear = run * after + e;
        const int64_t in = flat ? linear : Offset(linear, x.sizes(), x.strides());
        const int64_t at = flat ? linear : Offset(linear, out.sizes(), out.strides());
        to[at] = keep ? static_cast<T>(static_cast<Acc>(from[in]) * scale) : static_cast<T>(0);
      }
    }
  });
}

// x, p, site, dim, valid, outer, inner, dp_dim, dp_valid, dp_outer, dp_inner.
Result<Kernel> MakeDropout(const Call& c) {
  ASSIGN_OR_RETURN(const std::vector<Extent> extents, DropoutExtents(c));
  return Kernel([c = &c, extents]() -> Status {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, c->Tensor(0).scalar_type(), "dropout",
                                    [&] { DropoutRuns<scalar_t>(*c, extents, c->Tensor(0), c->outputs[0]); });
    return Ok();
  });
}

// x, dim, index.
Status Take(const Call& c) {
  const int64_t dim = c.Int(1);
  const std::vector<int64_t>& index = c.Ints(2);
  for (size_t i = 0; i < index.size(); ++i) {
    c.outputs[0].select(dim, static_cast<int64_t>(i)).copy_(c.Tensor(0).select(dim, index[i]));
  }
  return Ok();
}

// g, dim, index, size: row index[i] of the result is the sum of g's rows i, in order.
Status TakeBackward(const Call& c) {
  const int64_t dim = c.Int(1), size = c.Int(3);
  const std::vector<int64_t>& index = c.Ints(2);
  for (int64_t row = 0; row < size; ++row) {
    const at::Tensor out = c.outputs[0].select(dim, row);
    bool first = true;
    for (size_t i = 0; i < index.size(); ++i) {
      if (index[i] != row) continue;
      const at::Tensor g = c.Tensor(0).select(dim, static_cast<int64_t>(i));
      first ? out.copy_(g) : out.add_(g);
      first = false;
    }
    if (first) out.zero_();
  }
  return Ok();
}

}  // namespace

void AddPlacementKernels(KernelTable* table) {
  table->Add("autosp.first", &First);
  table->Add("autosp.mask", &Mask);
  table->Add("autosp.take", &Take);
  table->Add("autosp.take_backward", &TakeBackward);
}

void AddHostPlacementKernels(KernelTable* table) {
  table->Add("autosp.positions", &CheckPositions, &Positions);
  table->Add("autosp.dropout", &MakeDropout);
}

}  // namespace autospc::exec
