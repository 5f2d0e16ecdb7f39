// Walking a strided tensor in row-major order, by runs of elements that lie one after the other.
#pragma once

#include <cstdint>
#include <vector>

namespace autospc {

// Calls visit(position, count) for each run: elements position, …, position + count - 1 (from the first
// element). All sizes > 0. `Visit` returns false to stop.
template <typename Visit>
void ForEachRun(const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, Visit visit) {
  int64_t run = 1;
  size_t outer = sizes.size();
  while (outer > 0 && (sizes[outer - 1] == 1 || strides[outer - 1] == run)) run *= sizes[--outer];
  std::vector<int64_t> index(outer, 0);
  int64_t position = 0;
  while (visit(position, run)) {
    size_t d = outer;
    while (d > 0) {
      --d;
      position += strides[d];
      if (++index[d] < sizes[d]) break;
      position -= index[d] * strides[d];
      index[d] = 0;
      if (d == 0) return;
    }
    if (outer == 0) return;
  }
}

}  // namespace autospc
