#include "runtime/exec/portable.h"

#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/where.h>

#include <algorithm>
#include <array>

namespace autospc::exec {
namespace {

constexpr int64_t kWord = 0xFFFFFFFF;

// The upper 32 bits of 64, which int64's arithmetic shift fills with copies of the sign.
at::Tensor UpperWord(const at::Tensor& x) { return at::bitwise_right_shift(x, 32).bitwise_and_(kWord); }

}  // namespace

void CopyElementsTo(const at::Tensor& x, int64_t begin, int64_t end, const at::Tensor& to) {
  if (begin >= end) return;
  if (x.dim() <= 1 || x.is_contiguous()) {
    to.copy_((x.dim() == 1 ? x : x.view({-1})).narrow(0, begin, end - begin));
    return;
  }
  // The end of a row of the first dim, whole rows, and the beginning of another.
  const int64_t row = x.numel() / x.size(0), first = begin / row, last = end / row;
  const auto part = [&](int64_t r, int64_t from, int64_t behind, int64_t at) {
    CopyElementsTo(x.select(0, r), from, behind, to.narrow(0, at, behind - from));
  };
  if (begin % row != 0 || first == last) {
    part(first, begin % row, first == last ? end % row : row, 0);
    if (first == last) return;
  }
  const int64_t whole = begin % row == 0 ? first : first + 1;
  if (whole < last) {
    std::vector<int64_t> sizes = x.sizes().vec();
    sizes[0] = last - whole;
    to.narrow(0, whole * row - begin, (last - whole) * row).view(sizes).copy_(x.narrow(0, whole, last - whole));
  }
  if (end % row != 0) part(last, 0, end % row, last * row - begin);
}

void CopyElementsOrZeroTo(const at::Tensor& x, int64_t begin, int64_t end, const at::Tensor& to) {
  const int64_t have = std::clamp(x.numel(), begin, end);
  if (have > begin) CopyElementsTo(x, begin, have, to.narrow(0, 0, have - begin));
  if (have < end) to.narrow(0, have - begin, end - have).zero_();
}

at::Tensor FlatView(const at::Tensor& dense) { return dense.as_strided({dense.numel()}, {1}); }

at::Tensor BytesView(const at::Tensor& contiguous) { return contiguous.view({-1}).view(at::kByte); }

// Philox4x32-10 in int64: 64-bit products wrap around as unsigned ones do.
at::Tensor UniformAt(uint64_t seed, int64_t site, const at::Tensor& index) {
  const auto where = static_cast<uint64_t>(site);
  const auto word = [](uint64_t x) { return static_cast<int64_t>(x & 0xFFFFFFFF); };
  const at::Tensor block = at::bitwise_right_shift(index, 2);
  std::array<at::Tensor, 4> counter = {at::bitwise_and(block, kWord), UpperWord(block), at::full_like(index, word(where)),
                                       at::full_like(index, word(where >> 32))};
  std::array<int64_t, 2> key = {word(seed), word(seed >> 32)};
  for (int round = 0; round < 10; ++round) {
    const at::Tensor a = counter[0].mul(int64_t{0xD2511F53}), b = counter[2].mul(int64_t{0xCD9E8D57});
    counter = {UpperWord(b).bitwise_xor_(counter[1]).bitwise_xor_(key[0]), at::bitwise_and(b, kWord),
               UpperWord(a).bitwise_xor_(counter[3]).bitwise_xor_(key[1]), at::bitwise_and(a, kWord)};
    key = {word(static_cast<uint64_t>(key[0]) + 0x9E3779B9), word(static_cast<uint64_t>(key[1]) + 0xBB67AE85)};
  }
  const at::Tensor lane = at::bitwise_and(index, 3);
  at::Tensor words = at::where(lane.eq(0), counter[0], counter[1]);
  words = at::where(lane.ge(2), at::where(lane.eq(2), counter[2], counter[3]), words);
  // 24 bits, which float32 holds exactly.
  return words.bitwise_right_shift_(8).to(at::kFloat).mul_(1.0 / (1 << 24));
}

}  // namespace autospc::exec
