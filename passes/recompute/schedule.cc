#include "passes/recompute/schedule.h"

#include <algorithm>
#include <numeric>

namespace autospc::recompute {

Readers::Readers(const Problem& problem, const Schedule& schedule) : first_(schedule.store_of.size() + 1, 0), steps_(schedule.reads.size()) {
  for (const Step& step : schedule.steps) {
    for (int c : schedule.ReadsOf(problem, step)) ++first_[c + 1];
  }
  std::partial_sum(first_.begin(), first_.end(), first_.begin());
  std::vector<int> next(first_.begin(), first_.end() - 1);
  for (size_t i = 0; i < schedule.steps.size(); ++i) {
    for (int c : schedule.ReadsOf(problem, schedule.steps[i])) steps_[next[c]++] = static_cast<int>(i);
  }
}

Lifetimes FindLifetimes(const Problem& problem, const Schedule& schedule) {
  Lifetimes life;
  life.first.assign(schedule.store_of.size(), -1);
  life.last.assign(schedule.store_of.size(), -1);
  for (size_t i = 0; i < schedule.steps.size(); ++i) {
    const int at = static_cast<int>(i);
    for (int c : MakesOf(problem, schedule.steps[i])) life.first[c] = life.last[c] = at;
    for (int c : schedule.ReadsOf(problem, schedule.steps[i])) life.last[c] = at;
  }
  return life;
}

std::vector<int64_t> LiveBytes(const Problem& problem, const Schedule& schedule) {
  const Lifetimes life = FindLifetimes(problem, schedule);
  const size_t n = schedule.steps.size();
  std::vector<int64_t> change(n + 1, 0);
  std::vector<char> taken(schedule.store_of.size(), 0);
  for (size_t i = 0; i < n; ++i) {
    const Step& step = schedule.steps[i];
    const Item& item = problem.items[step.item];
    const int at = static_cast<int>(i);
    for (size_t m = 0; m < item.makes.size(); ++m) {
      const int copy = step.makes + static_cast<int>(m);
      const int64_t bytes = problem.stores[item.makes[m]].bytes;
      int from = at;
      for (const auto& [make, read] : item.in_place) {
        const int over = schedule.reads[step.reads + read];
        if (make != static_cast<int>(m) || life.last[over] != at || taken[over]) continue;
        taken[over] = 1;  // it dies here, so nobody asks again
        from = at + 1;
        break;
      }
      if (from > life.last[copy]) continue;  // dead at once, over its operand
      change[from] += bytes;
      change[life.last[copy] + 1] -= bytes;
    }
  }
  std::vector<int64_t> live(n, 0);
  int64_t now = 0;
  for (size_t i = 0; i < n; ++i) {
    now += change[i];
    live[i] = now + problem.items[schedule.steps[i].item].scratch;
  }
  return live;
}

void Measure(const Problem& problem, Schedule& schedule) {
  schedule.seconds = schedule.again_seconds = 0;
  for (const Step& step : schedule.steps) {
    const double seconds = problem.items[step.item].seconds;
    schedule.seconds += seconds;
    if (step.again) schedule.again_seconds += seconds;
  }
  const std::vector<int64_t> live = LiveBytes(problem, schedule);
  schedule.peak = live.empty() ? 0 : *std::max_element(live.begin(), live.end());
}

namespace {

class Replayer {
 public:
  Replayer(const Problem& problem, const std::vector<bool>& keep, int window)
      : problem_(problem), keep_(keep), window_(window) {}

  Schedule Run() {
    const int stores = static_cast<int>(problem_.stores.size());
    out_.store_of.resize(stores);
    std::iota(out_.store_of.begin(), out_.store_of.end(), 0);
    copy_.assign(stores, -1);
    made_at_.assign(stores, -1);
    std::vector<int> reads;
    for (int i = 0; i < static_cast<int>(problem_.items.size()) && !TooLong(); ++i) {
      const Item& item = problem_.items[i];
      reads = item.reads;
      if (i >= problem_.backward) {
        at_ = i;
        for (int& read : reads) read = Ensure(read);
      }
      Append({i, false, 0, item.makes.empty() ? 0 : item.makes[0]}, reads);
    }
    if (TooLong()) return {};
    Measure(problem_, out_);
    return std::move(out_);
  }

 private:
  bool TooLong() const { return out_.steps.size() > kLongest * problem_.items.size(); }

  void Append(Step step, const std::vector<int>& reads) {
    step.reads = static_cast<int>(out_.reads.size());
    out_.reads.insert(out_.reads.end(), reads.begin(), reads.end());
    out_.steps.push_back(step);
  }

  // The copy of storage `s` that the item at hand reads.
  int Ensure(int s) {
    const int maker = problem_.stores[s].maker;
    const Item& item = problem_.items[maker];
    if (keep_[s] || !item.repeatable || at_ > item.before || TooLong()) return s;
    if (copy_[s] >= 0 && at_ - made_at_[s] <= window_) return copy_[s];
    std::vector<int> reads = item.reads;
    for (int& read : reads) read = Ensure(read);
    const int first = static_cast<int>(out_.store_of.size());
    for (int made : item.makes) {
      copy_[made] = static_cast<int>(out_.store_of.size());
      made_at_[made] = at_;
      out_.store_of.push_back(made);
    }
    Append({maker, true, 0, first}, reads);
    return copy_[s];
  }

  static constexpr size_t kLongest = 3;  // times the graph

  const Problem& problem_;
  const std::vector<bool>& keep_;
  const int window_;
  Schedule out_;
  std::vector<int> copy_, made_at_;  // by store: the newest repetition's copy, and the item that asked for it
  int at_ = 0;
};

}  // namespace

Schedule Replay(const Problem& problem, const std::vector<bool>& keep, int window) {
  return Replayer(problem, keep, window).Run();
}

}  // namespace autospc::recompute
