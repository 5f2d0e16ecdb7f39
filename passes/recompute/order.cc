#include "passes/recompute/order.h"

#include <algorithm>
#include <utility>

namespace autospc::recompute {
namespace {

// A list of steps that knows which of two stands first.
class Sequence {
 public:
  explicit Sequence(int n) : labels_(n), next_(n + 1), previous_(n + 1), end_(n) {
    for (int i = 0; i <= n; ++i) {
      next_[i] = i == n ? 0 : i + 1;
      previous_[i] = i == 0 ? n : i - 1;
    }
    Relabel();
  }

  bool Before(int a, int b) const { return labels_[a] < labels_[b]; }
  int First() const { return next_[end_]; }
  int Next(int step) const { return next_[step]; }
  int End() const { return end_; }

  void PutBefore(int step, int other) { Put(step, other); }
  void PutBehind(int step, int other) { Put(step, next_[other]); }

 private:
  void Put(int step, int at) {
    if (at == step || at == next_[step]) return;
    next_[previous_[step]] = next_[step];
    previous_[next_[step]] = previous_[step];
    previous_[step] = previous_[at];
    next_[step] = at;
    next_[previous_[at]] = step;
    previous_[at] = step;
    const int left = previous_[step];
    const double low = left == end_ ? (at == end_ ? 0 : labels_[at] - 2) : labels_[left];
    const double high = at == end_ ? low + 2 : labels_[at];
    labels_[step] = low + (high - low) / 2;
    if (!(labels_[step] > low && labels_[step] < high)) Relabel();
  }

  void Relabel() {
    double label = 0;
    for (int step = First(); step != end_; step = next_[step]) labels_[step] = label++;
  }

  std::vector<double> labels_;
  std::vector<int> next_, previous_;  // a ring through end_
  int end_;
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
    reversed_ = hazards_;
    for (auto& [a, b] : reversed_) std::swap(a, b);
    std::sort(hazards_.begin(), hazards_.end());
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
      // From the back: of many readers the last is the one that most often stands behind.
      const bool last = std::none_of(readers.rbegin(), readers.rend(), [&](int r) { return sequence.Before(i, r); });
      if (last) gain -= problem_.stores[schedule_.store_of[c]].bytes;
    }
    return gain;
  }

  Schedule In(const Sequence& sequence) const {
    Schedule out;
    out.store_of = schedule_.store_of;
    out.reads = schedule_.reads;
    out.steps.reserve(n_);
    for (int i = sequence.First(); i != sequence.End(); i = sequence.Next(i)) out.steps.push_back(schedule_.steps[i]);
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
  take(Reorderer(problem, schedule).Sink());
  take(Reorderer(problem, schedule).Hoist());
  return schedule.peak < before;
}

}  // namespace autospc::recompute
