#include "runtime/exec/blocks.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace autospc::exec {
namespace {

// Rows of the last dim in tiles of rows and columns that stay in cache: x may be a transposed matrix.
template <typename T>
void CopyStrided(const at::Tensor& x, int64_t begin, int64_t end, T* to) {
  constexpr int64_t kRows = 16, kColumns = 256;
  const T* from = static_cast<const T*>(x.const_data_ptr());
  const int64_t width = x.size(-1), step = x.stride(-1);
  const auto row_offset = [&](int64_t row) {
    int64_t offset = 0;
    for (int64_t d = x.dim() - 2; d >= 0; --d) {
      offset += row % x.size(d) * x.stride(d);
      row /= x.size(d);
    }
    return offset;
  };
  const int64_t first = begin / width, behind = (end - 1) / width + 1;
  at::parallel_for(0, (behind - first + kRows - 1) / kRows, 4, [&](int64_t tile, int64_t stop) {
    for (; tile < stop; ++tile) {
      const int64_t top = first + tile * kRows, count = std::min(kRows, behind - top);
      std::array<int64_t, kRows> offsets;
      for (int64_t r = 0; r < count; ++r) offsets[r] = row_offset(top + r);
      for (int64_t column = 0; column < width; column += kColumns) {
        for (int64_t r = 0; r < count; ++r) {
          const int64_t row = (top + r) * width;
          const int64_t c0 = std::max(column, begin - row), c1 = std::min({column + kColumns, width, end - row});
          for (int64_t c = c0; c < c1; ++c) to[row + c - begin] = from[offsets[r] + c * step];
        }
      }
    }
  });
}

struct Wide {  // an element of 16 bytes
  uint64_t low, high;
};

}  // namespace

int64_t BlockLength(int64_t numel, int64_t ranks) { return (numel + ranks - 1) / ranks; }

void CopyElements(const at::Tensor& x, int64_t begin, int64_t end, std::byte* to) {
  if (begin >= end) return;
  const int64_t size = static_cast<int64_t>(x.element_size());
  if (x.is_contiguous()) {
    std::memcpy(to, static_cast<const std::byte*>(x.const_data_ptr()) + begin * size, (end - begin) * size);
    return;
  }
  switch (size) {
    case 1:
      return CopyStrided(x, begin, end, reinterpret_cast<uint8_t*>(to));
    case 2:
      return CopyStrided(x, begin, end, reinterpret_cast<uint16_t*>(to));
    case 4:
      return CopyStrided(x, begin, end, reinterpret_cast<uint32_t*>(to));
    case 8:
      return CopyStrided(x, begin, end, reinterpret_cast<uint64_t*>(to));
    default:
      return CopyStrided(x, begin, end, reinterpret_cast<Wide*>(to));
  }
}

void CopyElementsOrZero(const at::Tensor& x, int64_t begin, int64_t end, std::byte* to) {
  const int64_t size = static_cast<int64_t>(x.element_size());
  const int64_t have = std::clamp(x.numel(), begin, end);
  CopyElements(x, begin, have, to);
  std::memset(to + (have - begin) * size, 0, (end - have) * size);
}

}  // namespace autospc::exec
