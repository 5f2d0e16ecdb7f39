#include "passes/recompute/order.h"

#include <algorithm>
#include <list>
#include <utility>

namespace autospc::recompute {
namespace {

// A list of steps that knows which of two stands first.
class Sequence {
 public:
  explicit Sequence(int n) : labels_(n), where_(n) {
    for (int i = 0; i < n; ++i) where_[i] = list_.insert(list_.end(), i);
    Relabel();
  }

  bool Before(int a, int b) const { return labels_[a] < labels_[b]; }
  const std::list<int>& steps() const { return list_; }

  void PutBefore(int step, int other) { Put(step, where_[other]); }
  void PutBehind(int step, int other) { Put(step, std::next(where_[other])); }

 private:
  void Put(int step, std::list<int>::iterator at) {
    if (at == where_[step]) return;
    list_.splice(at, list_, where_[step]);
    const auto self = where_[step];
    const double low = self == list_.begin() ? labels_[*std::next(self)] - 2 : labels_[*std::prev(self)];
    const double high = std::next(self) == list_.end() ? low + 2 : labels_[*std::next(self)];
    labels_[step] = low + (high - low) / 2;
    if (!(labels_[step] > low && labels_[step] < high)) Relabel();
  }

  void Relabel() {
    double label = 0;
    for (int step : list_) labels_[step] = label++;
  }

  std::list<int> list_;
  std::vector<double> labels_;
  std::vector<std::list<int>::iterator> where_;
};

class Reorderer {
 public:
  Reorderer(const Problem& problem, const Schedule& schedule)
      : problem_(problem), schedule_(schedule), n_(static_cast<int>(schedule.steps.size())), readers_(problem, schedule),
        maker_(schedule.store_of.size(), -1) {
    std::vector<int> step_of(problem.items.size(), -1);
    for (int i = 0; i < n_; ++i) {
      const Step& step = schedule.steps[i];
      if (!step.again) step_of[step.item] = i;
      for (int c : MakesOf(problem, step)) maker_[c] = i;
    }
    for (int i = 0; i < n_; ++i) {
      const Step& step = schedule.steps[i];
      const int limit = problem.items[step.item].before;
      if (step.again && limit < static_cast<int>(problem.items.size())) hazards_.emplace_back(i, step_of[limit]);
    }
    for (const auto& [a, b] : problem.hazards) hazards_.emplace_back(step_of[a], step_of[b]);
    std::sort(hazards_.begin(), hazards_.end());
    for (const auto& [a, b] : hazards_) reversed_.emplace_back(b, a);
    std::sort(reversed_.begin(), reversed_.end());
  }

  Schedule Sink() const {
    Sequence sequence(n_);
    for (int i = n_; i-- > 0;) {
      if (Gain(i, sequence) <= 0) continue;
      int first = -1;
      const auto earlier = [&](int other) {
        if (first < 0 || sequence.Before(other, first)) first = other;
      };
      for (int c : MakesOf(problem_, schedule_.steps[i])) {
        for (int r : readers_[c]) earlier(r);
      }
      ForEach(hazards_, i, earlier);
      if (first >= 0) sequence.PutBefore(i, first);
    }
    return In(sequence);
  }

  Schedule Hoist() const {
    Sequence sequence(n_);
    for (int i = 0; i < n_; ++i) {
      if (Gain(i, sequence) >= 0) continue;
      int last = -1;
      const auto later = [&](int other) {
        if (last < 0 || sequence.Before(last, other)) last = other;
      };
      for (int c : schedule_.ReadsOf(problem_, schedule_.steps[i])) later(maker_[c]);
      ForEach(reversed_, i, later);
      if (last >= 0) sequence.PutBehind(i, last);
    }
    return In(sequence);
  }

 private:
  template <typename Visit>
  static void ForEach(const std::vector<std::pair<int, int>>& edges, int from, Visit visit) {
    for (auto it = std::lower_bound(edges.begin(), edges.end(), std::pair(from, -1)); it != edges.end() && it->first == from; ++it) {
      visit(it->second);
    }
  }

  // Bytes that are alive behind step `i` and were not before it.
  int64_t Gain(int i, const Sequence& sequence) const {
    int64_t gain = 0;
    for (int c : MakesOf(problem_, schedule_.steps[i])) {
      if (!readers_[c].empty()) gain += problem_.stores[schedule_.store_of[c]].bytes;
    }
    for (int c : schedule_.ReadsOf(problem_, schedule_.steps[i])) {
      const auto readers = readers_[c];
      const bool last = std::none_of(readers.begin(), readers.end(), [&](int r) { return sequence.Before(i, r); });
      if (last) gain -= problem_.stores[schedule_.store_of[c]].bytes;
    }
    return gain;
  }

  Schedule In(const Sequence& sequence) const {
    Schedule out;
    out.store_of = schedule_.store_of;
    out.reads = schedule_.reads;
    out.steps.reserve(n_);
    for (int i : sequence.steps()) out.steps.push_back(schedule_.steps[i]);
    Measure(problem_, out);
    return out;
  }

  const Problem& problem_;
  const Schedule& schedule_;
  const int n_;
  Readers readers_;
  std::vector<int> maker_;                               // by copy
  std::vector<std::pair<int, int>> hazards_, reversed_;  // step before step, and the other way round; sorted
};

}  // namespace

bool Reorder(const Problem& problem, Schedule& schedule) {
  if (schedule.steps.empty()) return false;
  const int64_t before = schedule.peak;
  const auto take = [&](Schedule next) {
    if (next.peak < schedule.peak) schedule = std::move(next);
  };
  take(Reorderer(problem, schedule).Hoist());
  take(Reorderer(problem, schedule).Sink());
  take(Reorderer(problem, schedule).Hoist());
  return schedule.peak < before;
}

}  // namespace autospc::recompute
