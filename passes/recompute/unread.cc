#include <algorithm>
#include <numeric>

#include "passes/recompute/schedule.h"

namespace autospc::recompute {

void DropUnread(const Problem& problem, Schedule& schedule) {
  std::vector<int> uses(schedule.store_of.size(), 0);
  for (const Step& step : schedule.steps) {
    for (int c : schedule.ReadsOf(problem, step)) ++uses[c];
  }
  const int n = static_cast<int>(schedule.steps.size());
  std::vector<char> gone(n, 0);
  std::vector<int> repetition(problem.items.size(), -1);  // the first that stays, behind the step at hand
  std::vector<int> renamed;                               // by copy; empty: none is
  for (int i = n; i-- > 0;) {
    Step& step = schedule.steps[i];
    const Item& item = problem.items[step.item];
    const auto makes = MakesOf(problem, step);
    const auto wanted = [&](int c) { return uses[c] > 0 || problem.stores[schedule.store_of[c]].fixed; };
    if (std::any_of(makes.begin(), makes.end(), wanted) || (!step.again && repetition[step.item] < 0)) {
      if (step.again) repetition[step.item] = i;
      continue;
    }
    if (!step.again) {
      Step& later = schedule.steps[repetition[step.item]];
      if (renamed.empty()) {
        renamed.resize(uses.size());
        std::iota(renamed.begin(), renamed.end(), 0);
      }
      for (size_t m = 0; m < item.makes.size(); ++m) renamed[later.makes + static_cast<int>(m)] = step.makes + static_cast<int>(m);
      later.again = false;
      later.makes = step.makes;
    }
    gone[i] = 1;
    for (int c : schedule.ReadsOf(problem, step)) --uses[c];
  }
  int kept = 0;
  for (int i = 0; i < n; ++i) {
    if (!gone[i]) schedule.steps[kept++] = schedule.steps[i];
  }
  schedule.steps.resize(kept);
  if (renamed.empty()) return;
  for (Step& step : schedule.steps) {
    for (int& c : schedule.ReadsOf(problem, step)) c = renamed[c];
  }
}

}  // namespace autospc::recompute
