#include "passes/recompute/fit.h"

#include <algorithm>
#include <limits>
#include <tuple>

#include "passes/memory/plan.h"
#include "passes/recompute/materialise.h"

namespace autospc::recompute {
namespace {

struct Entry {
  int form, candidate;
  double seconds;
  int64_t peak;  // as estimated
};

std::vector<Entry> Entries(const std::deque<Form>& forms) {
  std::vector<Entry> entries;
  for (size_t f = 0; f < forms.size(); ++f) {
    for (size_t c = 0; c < forms[f].candidates.size(); ++c) {
      const Schedule& s = forms[f].candidates[c].schedule;
      entries.push_back({static_cast<int>(f), static_cast<int>(c), s.seconds, forms[f].problem.persistent_bytes + s.peak});
    }
  }
  return entries;
}

}  // namespace

Result<Choice> PlanCandidate(const std::deque<Form>& forms, int form, int candidate, const memory::OpTraitsFn& traits) {
  const Form& f = forms[form];
  Choice choice{form, candidate, Materialise(*f.graph, f.problem, f.candidates[candidate].schedule), 0, 0, {}, false};
  ASSIGN_OR_RETURN(choice.plan, memory::PlanMemory(choice.graph, traits));
  choice.arena_bytes = choice.plan.arena_bytes;
  choice.peak_bytes = f.problem.persistent_bytes + choice.arena_bytes;
  return choice;
}

bool MayFit(const Form& form, const Candidate& candidate, int64_t budget) {
  constexpr double kSlack = 0.98;
  const auto peak = static_cast<double>(form.problem.persistent_bytes) + kSlack * static_cast<double>(candidate.schedule.peak);
  return budget <= 0 || peak <= static_cast<double>(budget);
}

Result<Choice> Smallest(const std::deque<Form>& forms, const memory::OpTraitsFn& traits) {
  std::vector<Entry> entries = Entries(forms);
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.peak < b.peak; });
  constexpr size_t kLowest = 3;  // their plans may lie closer than their estimates
  Choice best;
  best.peak_bytes = std::numeric_limits<int64_t>::max();
  for (size_t i = 0; i < std::min(kLowest, entries.size()); ++i) {
    ASSIGN_OR_RETURN(Choice choice, PlanCandidate(forms, entries[i].form, entries[i].candidate, traits));
    if (choice.peak_bytes < best.peak_bytes) best = std::move(choice);
  }
  if (best.form < 0) return Error{Code::kFailed, "there is no candidate program", "", "this is a bug of the compiler"};
  return best;
}

Result<Choice> ChooseWithin(const std::deque<Form>& forms, int64_t budget, const memory::OpTraitsFn& traits) {
  std::vector<Entry> entries = Entries(forms);
  std::stable_sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.seconds, a.peak) < std::tie(b.seconds, b.peak);
  });
  for (const Entry& e : entries) {
    if (!MayFit(forms[e.form], forms[e.form].candidates[e.candidate], budget)) continue;
    ASSIGN_OR_RETURN(Choice choice, PlanCandidate(forms, e.form, e.candidate, traits));
    if (budget > 0 && choice.peak_bytes > budget) continue;
    choice.fits = true;
    return choice;
  }
  return Smallest(forms, traits);
}

}  // namespace autospc::recompute
