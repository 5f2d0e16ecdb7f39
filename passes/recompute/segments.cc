#include "passes/recompute/segments.h"

#include <limits>
#include <numeric>

namespace autospc::recompute {

Segments::Segments(const Problem& problem)
    : problem_(problem), last_forward_(problem.stores.size(), -1), read_bytes_(problem.backward, 0) {
  std::vector<bool> backward(problem.stores.size(), false);
  for (int i = 0; i < static_cast<int>(problem.items.size()); ++i) {
    for (const int s : problem.items[i].reads) {
      if (i < problem.backward) {
        last_forward_[s] = i;
      } else {
        backward[s] = true;
      }
    }
  }
  for (int i = 0; i < problem.backward; ++i) {
    for (const int s : problem.items[i].makes) read_bytes_[i] += backward[s] ? problem.stores[s].bytes : 0;
  }
  backward_bytes_ = std::accumulate(read_bytes_.begin(), read_bytes_.end(), int64_t{0});
}

std::vector<bool> Segments::KeepBorders(int64_t inside) const {
  std::vector<bool> keep(problem_.stores.size(), false);
  for (int from = 0; from < problem_.backward;) {
    int64_t held = 0, crossing = 0, least = std::numeric_limits<int64_t>::max();
    int border = -1;
    int i = from;
    for (; i < problem_.backward; ++i) {
      if (read_bytes_[i] > 0 && held + read_bytes_[i] > inside && border >= 0) break;
      held += read_bytes_[i];
      for (const int s : problem_.items[i].makes) crossing += last_forward_[s] > i ? problem_.stores[s].bytes : 0;
      for (const int s : problem_.items[i].reads) {
        if (last_forward_[s] == i && problem_.stores[s].maker >= from) crossing -= problem_.stores[s].bytes;
      }
      if (2 * held >= inside && crossing <= least) least = crossing, border = i + 1;
    }
    if (i == problem_.backward) break;  // the rest is one segment
    for (int j = from; j < border; ++j) {
      for (const int s : problem_.items[j].makes) {
        if (last_forward_[s] >= border) keep[s] = true;
      }
    }
    from = border;
  }
  return keep;
}

}  // namespace autospc::recompute
