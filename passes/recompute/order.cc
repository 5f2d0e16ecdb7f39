#include "passes/recompute/order.h"

#include <algorithm>
#include <list>

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
      : problem_(problem), schedule_(schedule), n_(static_cast<int>(schedule.steps.size())), before_(n_), behind_(n_),
        readers_(schedule.store_of.size()), maker_(schedule.store_of.size(), -1) {
    std::vector<int> step_of(problem.items.size(), -1);
    for (int i = 0; i < n_; ++i) {
      const Step& step = schedule.steps[i];
      if (!step.again) step_of[step.item] = i;
      for (int c : step.makes) maker_[c] = i;
    }
    for (int i = 0; i < n_; ++i) {
      const Step& step = schedule.steps[i];
      for (int c : step.reads) {
        readers_[c].push_back(i);
        Edge(maker_[c], i);
      }
      const int limit = problem.items[step.item].before;
      if (step.again && limit < static_cast<int>(problem.items.size())) Edge(i, step_of[limit]);
    }
    for (const auto& [a, b] : problem.hazards) Edge(step_of[a], step_of[b]);
  }

  Schedule Sink() const {
    Sequence sequence(n_);
    for (int i = n_; i-- > 0;) {
      if (behind_[i].empty() || Gain(i, sequence) <= 0) continue;
      const int first = *std::min_element(behind_[i].begin(), behind_[i].end(), [&](int a, int b) { return sequence.Before(a, b); });
      sequence.PutBefore(i, first);
    }
    return In(sequence);
  }

  Schedule Hoist() const {
    Sequence sequence(n_);
    for (int i = 0; i < n_; ++i) {
      if (before_[i].empty() || Gain(i, sequence) >= 0) continue;
      const int last = *std::max_element(before_[i].begin(), before_[i].end(), [&](int a, int b) { return sequence.Before(a, b); });
      sequence.PutBehind(i, last);
    }
    return In(sequence);
  }

 private:
  void Edge(int a, int b) {
    behind_[a].push_back(b);
    before_[b].push_back(a);
  }

  // Bytes that are alive behind step `i` and were not before it.
  int64_t Gain(int i, const Sequence& sequence) const {
    int64_t gain = 0;
    for (int c : schedule_.steps[i].makes) {
      if (!readers_[c].empty()) gain += problem_.stores[schedule_.store_of[c]].bytes;
    }
    for (int c : schedule_.steps[i].reads) {
      const bool last = std::none_of(readers_[c].begin(), readers_[c].end(), [&](int r) { return sequence.Before(i, r); });
      if (last) gain -= problem_.stores[schedule_.store_of[c]].bytes;
    }
    return gain;
  }

  Schedule In(const Sequence& sequence) const {
    Schedule out;
    out.store_of = schedule_.store_of;
    for (int i : sequence.steps()) out.steps.push_back(schedule_.steps[i]);
    Measure(problem_, out);
    return out;
  }

  const Problem& problem_;
  const Schedule& schedule_;
  const int n_;
  std::vector<std::vector<int>> before_, behind_;
  std::vector<std::vector<int>> readers_;  // by copy
  std::vector<int> maker_;                 // by copy
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
