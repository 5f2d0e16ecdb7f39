#include "passes/recompute/fit.h"

#include <algorithm>
#include <limits>

#include "passes/memory/plan.h"
#include "passes/recompute/materialise.h"

namespace autospc::recompute {
namespace {

struct Entry {
  int form, candidate;
  double seconds;
  int64_t peak;  // as estimated
};

Result<Choice> Plan(const std::vector<Form>& forms, const Entry& e, const memory::OpTraitsFn& traits) {
  const Form& form = forms[e.form];
  Choice choice{e.form, e.candidate, Materialise(*form.graph, form.problem, form.candidates[e.candidate].schedule), 0, 0, false};
  ASSIGN_OR_RETURN(const memory::MemoryPlan plan, memory::PlanMemory(choice.graph, traits));
  choice.arena_bytes = plan.arena_bytes;
  choice.peak_bytes = form.problem.persistent_bytes + plan.arena_bytes;
  return choice;
}

}  // namespace

Result<Choice> ChooseWithin(const std::vector<Form>& forms, int64_t budget, const memory::OpTraitsFn& traits) {
  std::vector<Entry> entries;
  for (size_t f = 0; f < forms.size(); ++f) {
    for (size_t c = 0; c < forms[f].candidates.size(); ++c) {
      const Schedule& s = forms[f].candidates[c].schedule;
      entries.push_back({static_cast<int>(f), static_cast<int>(c), s.seconds, forms[f].problem.persistent_bytes + s.peak});
    }
  }
  if (entries.empty()) return Error{Code::kFailed, "there is no candidate program", "", "this is a bug of the compiler"};
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.seconds != b.seconds ? a.seconds < b.seconds : a.peak < b.peak;
  });
  // No placement is below the bytes alive at once; the estimate of those may be a little off.
  const double slack = 0.98;
  for (const Entry& e : entries) {
    if (budget > 0 && static_cast<double>(e.peak) * slack > static_cast<double>(budget)) continue;
    ASSIGN_OR_RETURN(Choice choice, Plan(forms, e, traits));
    if (budget > 0 && choice.peak_bytes > budget) continue;
    choice.fits = true;
    return choice;
  }
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.peak < b.peak; });
  constexpr size_t kLowest = 3;  // their plans may lie closer than their estimates
  Choice best;
  best.peak_bytes = std::numeric_limits<int64_t>::max();
  for (size_t i = 0; i < std::min(kLowest, entries.size()); ++i) {
    ASSIGN_OR_RETURN(Choice choice, Plan(forms, entries[i], traits));
    if (choice.peak_bytes < best.peak_bytes) best = std::move(choice);
  }
  return best;
}

}  // namespace autospc::recompute
