// Conversions and per-rank values that need no other rank: what a rank computes depends on its number alone.
#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>

#include <algorithm>

#include "runtime/exec/call.h"
#include "runtime/exec/philox.h"

namespace autospc::exec {
namespace {

bool SamePlace(const at::Tensor& a, const at::Tensor& b) {
  return a.data_ptr() == b.data_ptr() && a.strides() == b.strides();
}

// Rows of this rank that are no padding.
int64_t ValidRows(const Call& c, int64_t block, int64_t valid) {
  return std::clamp<int64_t>(valid - c.context->rank * block, 0, block);
}

Status First(const Call& c) {
  if (c.context->rank != 0) {
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
  const int64_t first = c.context->rank * c.Int(2), last = c.Int(3) - 1;
  if (c10::isIntegralType(out.scalar_type(), /*includeBool=*/true)) {
    AT_DISPATCH_INTEGRAL_TYPES_AND(at::kBool, out.scalar_type(), "positions", [&] {
      scalar_t* p = out.data_ptr<scalar_t>();
      for (int64_t i = 0; i < out.numel(); ++i) {
        p[i * out.stride(0)] = static_cast<scalar_t>(c.Int(0) + c.Int(1) * std::min(first + i, last));
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

// x, p, site, dim, valid, outer, inner. x is [before, outer * block * inner, after]; each run of `after`
// elements has consecutive global indices.
template <typename T>
void DropoutRuns(const Call& c, const at::Tensor& x, const at::Tensor& out) {
  using Acc = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const double p = c.Float(1);
  const Acc scale = p < 1 ? static_cast<Acc>(1.0 / (1.0 - p)) : Acc(0);
  const int64_t site = c.Int(2), dim = c.Int(3), outer = c.Int(5), inner = c.Int(6);
  const uint64_t seed = c.context->seed;
  int64_t local = 1, block = 1, valid = 1, after = x.numel();
  if (dim >= 0) {
    local = x.size(dim);
    valid = c.Int(4);
    block = local / std::max<int64_t>(outer * inner, 1);
    after = 1;
    for (int64_t d = dim + 1; d < x.dim(); ++d) after *= x.size(d);
  }
  const int64_t global = dim >= 0 ? outer * valid * inner : 1;
  const int64_t runs = after > 0 ? x.numel() / after : 0;
  const bool flat = x.is_contiguous() && out.is_contiguous();
  const T* from = x.const_data_ptr<T>();
  T* to = out.data_ptr<T>();
  constexpr int64_t kSpan = 4096;  // elements of a task
  const int64_t spans = (after + kSpan - 1) / kSpan;
  at::parallel_for(0, runs * spans, 4, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t run = task / spans, start = task % spans * kSpan, stop = std::min(after, start + kSpan);
      int64_t row = 0;
      if (dim >= 0) {
        const int64_t l = run % local, i = l % inner, b = l / inner % block, o = l / inner / block;
        row = (o * valid + std::min(c.context->rank * block + b, valid - 1)) * inner + i;
      }
      const int64_t first = (run / local * global + row) * after;
      std::array<uint32_t, 4> words{};
      uint64_t at_block = ~uint64_t{0};
      for (int64_t e = start; e < stop; ++e) {
        const auto index = static_cast<uint64_t>(first + e);
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

Status Dropout(const Call& c) {
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, c.Tensor(0).scalar_type(), "dropout",
                                  [&] { DropoutRuns<scalar_t>(c, c.Tensor(0), c.outputs[0]); });
  return Ok();
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
  table->Add("autosp.positions", &Positions);
  table->Add("autosp.dropout", &Dropout);
  table->Add("autosp.take", &Take);
  table->Add("autosp.take_backward", &TakeBackward);
}

}  // namespace autospc::exec
