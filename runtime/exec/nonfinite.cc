#include "runtime/exec/nonfinite.h"

#include <algorithm>
#include <cmath>
#include <complex>

namespace autospc::exec {
namespace {

// Bits of a floating type: exponent all ones means not finite, and a mantissa besides NaN.
template <typename Bits, Bits kExponent, Bits kMantissa>
struct Format {
  using Word = Bits;
  static bool IsNan(Bits b) { return (b & kExponent) == kExponent && (b & kMantissa) != 0; }
  static bool IsInf(Bits b) { return (b & (kExponent | kMantissa)) == kExponent; }
  // A sweep that the compiler can vectorise: whether any is not finite, and of which kind.
  static Kinds Sweep(const Bits* data, int64_t n) {
    Kinds kinds;
    constexpr int64_t kBlock = 4096;  // most tensors are finite: one comparison an element, and a look behind each block
    for (int64_t begin = 0; begin < n; begin += kBlock) {
      const int64_t end = std::min(n, begin + kBlock);
      Bits found = 0;
      for (int64_t i = begin; i < end; ++i) found |= static_cast<Bits>((data[i] & kExponent) == kExponent);
      if (found == 0) continue;
      for (int64_t i = begin; i < end; ++i) {
        kinds.nan |= IsNan(data[i]);
        kinds.inf |= IsInf(data[i]);
      }
      if (kinds.nan && kinds.inf) break;
    }
    return kinds;
  }
};
using Double = Format<uint64_t, 0x7ff0000000000000, 0x000fffffffffffff>;
using Single = Format<uint32_t, 0x7f800000, 0x007fffff>;
using Half = Format<uint16_t, 0x7c00, 0x03ff>;
using Brain = Format<uint16_t, 0x7f80, 0x007f>;

// Calls f(pointer to the first element, elements) for runs of elements that lie one after the other, in the order of
// indices; f returns whether to go on.
template <typename F>
void ForRuns(const at::Tensor& t, F f) {
  const int64_t numel = t.numel();
  if (numel == 0) return;
  const auto* data = static_cast<const char*>(t.const_data_ptr());
  const auto element = static_cast<int64_t>(t.element_size());
  // Trailing dims that are contiguous among themselves make a run.
  int64_t run = 1, outer = t.dim();
  while (outer > 0 && (t.size(outer - 1) == 1 || t.stride(outer - 1) == run)) run *= t.size(--outer);
  std::vector<int64_t> index(static_cast<size_t>(outer), 0);
  for (int64_t done = 0; done < numel; done += run) {
    int64_t offset = 0;
    for (int64_t d = 0; d < outer; ++d) offset += index[d] * t.stride(d);
    if (!f(data + offset * element, run)) return;
    for (int64_t d = outer; d-- > 0;) {
      if (++index[d] < t.size(d)) break;
      index[d] = 0;
    }
  }
}

// Calls f with the format of t's elements and how many of its words are one element; nothing where t is not floating.
template <typename F>
void WithFormat(const at::Tensor& t, F f) {
  switch (t.scalar_type()) {
    case at::kDouble: return f(Double(), 1);
    case at::kFloat: return f(Single(), 1);
    case at::kHalf: return f(Half(), 1);
    case at::kBFloat16: return f(Brain(), 1);
    case at::kComplexFloat: return f(Single(), 2);
    case at::kComplexDouble: return f(Double(), 2);
    default: return;
  }
}

std::vector<int64_t> IndexOf(const at::Tensor& t, int64_t position) {
  std::vector<int64_t> index(static_cast<size_t>(t.dim()), 0);
  for (int64_t d = t.dim(); d-- > 0;) {
    index[d] = position % t.size(d);
    position /= t.size(d);
  }
  return index;
}

}  // namespace

Kinds FindNonFinite(const at::Tensor& where) {
  Kinds kinds;
  if (!where.defined()) return kinds;
  const at::Tensor t = where.cpu();
  WithFormat(t, [&](auto format, int words) {
    using F = decltype(format);
    ForRuns(t, [&](const char* data, int64_t n) {
      const Kinds found = F::Sweep(reinterpret_cast<const typename F::Word*>(data), n * words);
      kinds.nan |= found.nan;
      kinds.inf |= found.inf;
      return !(kinds.nan && kinds.inf);
    });
  });
  return kinds;
}

NonFinite CountNonFinite(const at::Tensor& where) {
  const at::Tensor t = where.cpu();
  NonFinite result;
  result.elements = t.numel();
  WithFormat(t, [&](auto format, int words) {
    using F = decltype(format);
    int64_t position = 0;
    ForRuns(t, [&](const char* data, int64_t n) {
      const auto* bits = reinterpret_cast<const typename F::Word*>(data);
      for (int64_t i = 0; i < n; ++i, ++position) {
        bool nan = false, inf = false;
        for (int w = 0; w < words; ++w) {
          nan |= F::IsNan(bits[i * words + w]);
          inf |= F::IsInf(bits[i * words + w]);
        }
        if (!nan && !inf) continue;
        if (!result.any()) result.first = IndexOf(t, position);
        ++(nan ? result.nan : result.inf);
      }
      return true;
    });
  });
  return result;
}

}  // namespace autospc::exec
