#include <algorithm>
#include <utility>

#include "passes/recompute/schedule.h"

namespace autospc::recompute {
namespace {

class Refiller {
 public:
  Refiller(const Problem& problem, Schedule& schedule, int64_t limit)
      : problem_(problem), schedule_(schedule), limit_(limit), live_(LiveBytes(problem, schedule)),
        life_(FindLifetimes(problem, schedule)), readers_(schedule.store_of.size()), gone_(schedule.steps.size(), 0) {
    const Readers readers(problem, schedule);
    for (size_t c = 0; c < readers_.size(); ++c) readers_[c].assign(readers[static_cast<int>(c)].begin(), readers[static_cast<int>(c)].end());
  }

  int Run() {
    FindPredecessors();
    std::vector<std::pair<double, int>> order;  // seconds for a byte, negated; the step
    for (size_t i = 0; i < schedule_.steps.size(); ++i) {
      const Step& step = schedule_.steps[i];
      if (!step.again) continue;
      int64_t bytes = 0;
      for (int c : MakesOf(problem_, step)) {
        if (!readers_[c].empty()) bytes += problem_.stores[schedule_.store_of[c]].bytes;
      }
      order.emplace_back(-Exclusive(static_cast<int>(i)) / static_cast<double>(std::max<int64_t>(bytes, 1)), static_cast<int>(i));
    }
    std::stable_sort(order.begin(), order.end());
    int removed = 0;
    for (const auto& [score, at] : order) removed += !gone_[at] && Remove(at);
    if (removed > 0) Compact();
    return removed;
  }

 private:
  // The copies of one storage in order: which was made before each, and which behind it.
  void FindPredecessors() {
    before_.assign(schedule_.store_of.size(), -1);
    behind_.assign(schedule_.store_of.size(), -1);
    std::vector<int> newest(problem_.stores.size(), -1);
    for (const Step& step : schedule_.steps) {
      for (int c : MakesOf(problem_, step)) {
        int& n = newest[schedule_.store_of[c]];
        before_[c] = n;
        if (n >= 0) behind_[n] = c;
        n = c;
      }
    }
  }

  bool Unread(const Step& step, int but = -1) const {
    const auto makes = MakesOf(problem_, step);
    return std::all_of(makes.begin(), makes.end(), [&](int m) { return m == but || readers_[m].empty(); });
  }

  // Seconds that go with a step: its own, and those of repetitions that serve it alone.
  double Exclusive(int at) const {
    double seconds = problem_.items[schedule_.steps[at].item].seconds;
    for (int c : schedule_.ReadsOf(problem_, schedule_.steps[at])) {
      const Step& maker = schedule_.steps[life_.first[c]];
      if (maker.again && readers_[c].size() == 1 && Unread(maker, c)) seconds += Exclusive(life_.first[c]);
    }
    return seconds;
  }

  bool Remove(int at) {
    const Step& step = schedule_.steps[at];
    // The copy before lives from its last reader to this step; there must be room for all of the step's results.
    longer_.clear();
    for (int c : MakesOf(problem_, step)) {
      if (readers_[c].empty()) continue;
      if (before_[c] < 0) return false;  // another order has put this one first
      const int last = readers_[before_[c]].empty() ? life_.first[before_[c]] : readers_[before_[c]].back();
      longer_.emplace_back(HandsOver(last, before_[c]) ? last : last + 1, problem_.stores[schedule_.store_of[c]].bytes);
    }
    if (longer_.empty()) return false;
    std::sort(longer_.begin(), longer_.end());
    int64_t more = 0;
    for (size_t k = 0; k < longer_.size(); ++k) {
      more += longer_[k].second;
      const int end = k + 1 < longer_.size() ? longer_[k + 1].first : at;
      for (int i = longer_[k].first; i < end; ++i) {
        if (live_[i] + more > limit_ && !gone_[i]) return false;
      }
    }
    for (const auto& [from, bytes] : longer_) {
      for (int i = from; i < at; ++i) live_[i] += bytes;
    }
    for (int c : MakesOf(problem_, step)) {
      if (readers_[c].empty()) continue;
      std::vector<int>& heir = readers_[before_[c]];
      for (int r : readers_[c]) {
        const auto reads = schedule_.ReadsOf(problem_, schedule_.steps[r]);
        std::replace(reads.begin(), reads.end(), c, before_[c]);
        heir.push_back(r);
      }
      std::sort(heir.begin(), heir.end());
      Forget(c);
    }
    Drop(at);
    return true;
  }

  // Whether step `at` may write a result over copy `c`, which it can't any more where `c` lives on.
  bool HandsOver(int at, int c) const {
    const auto& in_place = problem_.items[schedule_.steps[at].item].in_place;
    const auto reads = schedule_.ReadsOf(problem_, schedule_.steps[at]);
    return std::any_of(in_place.begin(), in_place.end(), [&](const auto& pair) { return reads[pair.second] == c; });
  }

  // Copies after `c` of its storage now follow the one before it.
  void Forget(int c) {
    readers_[c].clear();
    if (before_[c] >= 0) behind_[before_[c]] = behind_[c];
    if (behind_[c] >= 0) before_[behind_[c]] = before_[c];
  }

  // The step goes, and with it the repetitions that nobody reads any more.
  void Drop(int at) {
    gone_[at] = 1;
    for (int c : schedule_.ReadsOf(problem_, schedule_.steps[at])) {
      std::vector<int>& readers = readers_[c];
      readers.erase(std::remove(readers.begin(), readers.end(), at), readers.end());
      const int maker = life_.first[c];
      const Step& step = schedule_.steps[maker];
      if (gone_[maker] || !step.again || !Unread(step)) continue;
      for (int m : MakesOf(problem_, step)) Forget(m);
      Drop(maker);
    }
  }

  void Compact() {
    std::vector<Step> kept;
    for (size_t i = 0; i < schedule_.steps.size(); ++i) {
      if (!gone_[i]) kept.push_back(schedule_.steps[i]);
    }
    schedule_.steps = std::move(kept);
    Measure(problem_, schedule_);
  }

  const Problem& problem_;
  Schedule& schedule_;
  const int64_t limit_;
  std::vector<int64_t> live_;  // an upper bound while steps go
  Lifetimes life_;
  std::vector<std::vector<int>> readers_;  // by copy, in order
  std::vector<int> before_, behind_;       // by copy
  std::vector<char> gone_;                 // by step
  std::vector<std::pair<int, int64_t>> longer_;  // of the step at hand: from where on how many bytes more
};

}  // namespace

int Refill(const Problem& problem, Schedule& schedule, int64_t limit) {
  int removed = 0;
  // What goes makes room (its operands die earlier), which the bound above does not see: a second look does.
  for (int round = 0; round < 2; ++round) {
    const int now = Refiller(problem, schedule, limit).Run();
    removed += now;
    if (now == 0) break;
  }
  return removed;
}

}  // namespace autospc::recompute
