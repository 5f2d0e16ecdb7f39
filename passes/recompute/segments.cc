#include "passes/recompute/segments.h"

#include <limits>

namespace autospc::recompute {
namespace {

struct Uses {
  std::vector<int> last_forward;  // by storage: the last forward item that reads it, -1 if none does
  std::vector<bool> backward;     // by storage: the backward pass reads it
};

Uses FindUses(const Problem& problem) {
  Uses uses{std::vector<int>(problem.stores.size(), -1), std::vector<bool>(problem.stores.size(), false)};
  for (int i = 0; i < static_cast<int>(problem.items.size()); ++i) {
    for (const int s : problem.items[i].reads) {
      if (i < problem.backward) {
        uses.last_forward[s] = i;
      } else {
        uses.backward[s] = true;
      }
    }
  }
  return uses;
}

int64_t ReadBytes(const Problem& problem, const Uses& uses, int item) {
  int64_t bytes = 0;
  for (const int s : problem.items[item].makes) bytes += uses.backward[s] ? problem.stores[s].bytes : 0;
  return bytes;
}

}  // namespace

int64_t BackwardBytes(const Problem& problem) {
  const Uses uses = FindUses(problem);
  int64_t bytes = 0;
  for (int i = 0; i < problem.backward; ++i) bytes += ReadBytes(problem, uses, i);
  return bytes;
}

std::vector<bool> KeepBorders(const Problem& problem, int64_t inside) {
  const Uses uses = FindUses(problem);
  std::vector<bool> keep(problem.stores.size(), false);
  for (int from = 0; from < problem.backward;) {
    int64_t held = 0, crossing = 0, least = std::numeric_limits<int64_t>::max();
    int border = -1;
    int i = from;
    for (; i < problem.backward; ++i) {
      const int64_t more = ReadBytes(problem, uses, i);
      if (more > 0 && held + more > inside && border >= 0) break;
      held += more;
      for (const int s : problem.items[i].makes) crossing += uses.last_forward[s] > i ? problem.stores[s].bytes : 0;
      for (const int s : problem.items[i].reads) {
        if (uses.last_forward[s] == i && problem.stores[s].maker >= from) crossing -= problem.stores[s].bytes;
      }
      if (2 * held >= inside && crossing <= least) least = crossing, border = i + 1;
    }
    if (i == problem.backward) break;  // the rest is one segment
    for (int j = from; j < border; ++j) {
      for (const int s : problem.items[j].makes) {
        if (uses.last_forward[s] >= border) keep[s] = true;
      }
    }
    from = border;
  }
  return keep;
}

}  // namespace autospc::recompute
