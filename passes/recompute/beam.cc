#include "passes/recompute/beam.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

namespace autospc::recompute {
namespace {

bool Less(const Schedule& a, const Schedule& b) { return a.peak != b.peak ? a.peak < b.peak : a.seconds < b.seconds; }

// The best `width` by ranks, those of the first rank in front; `first` is how many these are. One of each equal pair of
// peak and seconds stays.
std::vector<Schedule> Best(std::vector<Schedule> all, size_t width, size_t* first) {
  std::stable_sort(all.begin(), all.end(), Less);
  const auto equal = [](const Schedule& a, const Schedule& b) { return a.peak == b.peak && a.seconds == b.seconds; };
  all.erase(std::unique(all.begin(), all.end(), equal), all.end());
  std::vector<Schedule> best;
  *first = 0;
  while (best.size() < width && !all.empty()) {
    std::vector<Schedule> rest;
    double fastest = std::numeric_limits<double>::infinity();
    for (Schedule& s : all) {
      if (s.seconds < fastest) {
        fastest = s.seconds;
        best.push_back(std::move(s));
      } else {
        rest.push_back(std::move(s));
      }
    }
    if (*first == 0) *first = best.size();
    all = std::move(rest);
  }
  if (best.size() > width) best.resize(std::max(width, *first));
  return best;
}

}  // namespace

std::vector<Schedule> LowerMany(const Problem& problem, std::vector<Schedule> starts, size_t width, int generations) {
  std::vector<Schedule> made;
  std::set<std::pair<int64_t, double>> seen;
  size_t first = 0;
  std::vector<Schedule> beam = Best(std::move(starts), width, &first);
  for (int g = 0; g < generations && !beam.empty(); ++g) {
    std::vector<Schedule> next;
    for (const Schedule& s : beam) {
      LowerEach(problem, s, [&](Schedule lowered) {
        Refill(problem, lowered, lowered.peak);
        if (seen.emplace(lowered.peak, lowered.seconds).second) next.push_back(std::move(lowered));
      });
    }
    beam = Best(std::move(next), width, &first);
    made.insert(made.end(), beam.begin(), beam.begin() + static_cast<std::ptrdiff_t>(std::min(first, beam.size())));
  }
  return made;
}

}  // namespace autospc::recompute
