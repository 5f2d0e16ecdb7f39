#include <algorithm>
#include <cstddef>
#include <limits>
#include <utility>

#include "passes/recompute/schedule.h"

namespace autospc::recompute {
namespace {

// Bytes by step, with additions and maxima over ranges in O(sqrt n).
class Heights {
 public:
  explicit Heights(std::vector<int64_t> values) : values_(std::move(values)), most_((values_.size() + kBlock - 1) / kBlock), more_(most_.size(), 0) {
    for (size_t b = 0; b < most_.size(); ++b) Renew(static_cast<int>(b));
  }

  // Over [from, to).
  int64_t Max(int from, int to) const {
    int64_t most = 0;
    Over(from, to, [&](int b) { most = std::max(most, most_[b]); }, [&](int b, int i) { most = std::max(most, values_[i] + more_[b]); });
    return most;
  }

  void Add(int from, int to, int64_t bytes) {
    Over(from, to,
         [&](int b) {
           more_[b] += bytes;
           most_[b] += bytes;
         },
         [&](int b, int i) {
           values_[i] += bytes;
           most_[b] = std::max(most_[b], values_[i] + more_[b]);
         });
  }

  // The step is gone: nothing limits what lives across it.
  void Ignore(int i) {
    values_[i] = std::numeric_limits<int64_t>::min() / 4;
    Renew(i / kBlock);
  }

 private:
  static constexpr int kBlock = 64;

  template <typename Whole, typename One>
  static void Over(int from, int to, Whole whole, One one) {
    int i = from;
    while (i < to) {
      const int b = i / kBlock;
      if (i % kBlock == 0 && i + kBlock <= to) {
        whole(b);
        i += kBlock;
      } else {
        one(b, i++);
      }
    }
  }

  void Renew(int b) {
    const auto begin = values_.begin() + static_cast<ptrdiff_t>(b) * kBlock;
    most_[b] = *std::max_element(begin, begin + std::min<ptrdiff_t>(kBlock, values_.end() - begin)) + more_[b];
  }

  std::vector<int64_t> values_, most_, more_;
};

// For each copy the steps that read it, as lists that can be cut and joined.
class ReaderLists {
 public:
  ReaderLists(const Problem& problem, const Schedule& schedule)
      : head_(schedule.store_of.size(), -1), tail_(head_), step_(schedule.reads.size()), next_(step_.size(), -1), previous_(step_.size(), -1) {
    for (size_t i = 0; i < schedule.steps.size(); ++i) {
      const int first = schedule.steps[i].reads;
      const auto reads = schedule.ReadsOf(problem, schedule.steps[i]);
      for (size_t k = 0; k < reads.size(); ++k) {
        const int entry = first + static_cast<int>(k);
        step_[entry] = static_cast<int>(i);
        Link(reads[k], entry, entry);
      }
    }
  }

  bool None(int copy) const { return head_[copy] < 0; }
  bool One(int copy) const { return head_[copy] >= 0 && head_[copy] == tail_[copy]; }

  // The last step that reads it; -1: none.
  int Last(int copy) const {
    int last = -1;
    for (int e = head_[copy]; e >= 0; e = next_[e]) last = std::max(last, step_[e]);
    return last;
  }

  // Entries are places in Schedule::reads.
  template <typename Visit>
  void ForEach(int copy, Visit visit) const {
    for (int e = head_[copy]; e >= 0; e = next_[e]) visit(e);
  }

  void Remove(int copy, int entry) {
    (previous_[entry] >= 0 ? next_[previous_[entry]] : head_[copy]) = next_[entry];
    (next_[entry] >= 0 ? previous_[next_[entry]] : tail_[copy]) = previous_[entry];
  }

  void MoveAll(int from, int to) {
    if (head_[from] >= 0) Link(to, head_[from], tail_[from]);
    head_[from] = tail_[from] = -1;
  }

 private:
  void Link(int copy, int first, int last) {
    previous_[first] = tail_[copy];
    next_[last] = -1;
    (tail_[copy] >= 0 ? next_[tail_[copy]] : head_[copy]) = first;
    tail_[copy] = last;
  }

  std::vector<int> head_, tail_;               // by copy
  std::vector<int> step_, next_, previous_;    // by entry
};

class Refiller {
 public:
  Refiller(const Problem& problem, Schedule& schedule, int64_t limit)
      : problem_(problem), schedule_(schedule), limit_(limit), live_(LiveBytes(problem, schedule)),
        life_(FindLifetimes(problem, schedule)), readers_(problem, schedule), gone_(schedule.steps.size(), 0) {}

  int Run() {
    FindPredecessors();
    std::vector<std::pair<double, int>> order;  // seconds for a byte, negated; the step
    for (size_t i = 0; i < schedule_.steps.size(); ++i) {
      const Step& step = schedule_.steps[i];
      if (!step.again) continue;
      int64_t bytes = 0;
      for (int c : MakesOf(problem_, step)) {
        if (!readers_.None(c)) bytes += problem_.stores[schedule_.store_of[c]].bytes;
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
    return std::all_of(makes.begin(), makes.end(), [&](int m) { return m == but || readers_.None(m); });
  }

  // Seconds that go with a step: its own, and those of repetitions that serve it alone.
  double Exclusive(int at) const {
    double seconds = problem_.items[schedule_.steps[at].item].seconds;
    for (int c : schedule_.ReadsOf(problem_, schedule_.steps[at])) {
      const Step& maker = schedule_.steps[life_.first[c]];
      if (maker.again && readers_.One(c) && Unread(maker, c)) seconds += Exclusive(life_.first[c]);
    }
    return seconds;
  }

  bool Remove(int at) {
    const Step& step = schedule_.steps[at];
    // The copy before lives from its last reader to this step; there must be room for all of the step's results.
    longer_.clear();
    for (int c : MakesOf(problem_, step)) {
      if (readers_.None(c)) continue;
      if (before_[c] < 0) return false;  // another order has put this one first
      const int last = std::max(readers_.Last(before_[c]), life_.first[before_[c]]);
      longer_.emplace_back(HandsOver(last, before_[c]) ? last : last + 1, problem_.stores[schedule_.store_of[c]].bytes);
    }
    if (longer_.empty()) return false;
    std::sort(longer_.begin(), longer_.end());
    int64_t more = 0;
    for (size_t k = 0; k < longer_.size(); ++k) {
      more += longer_[k].second;
      const int end = k + 1 < longer_.size() ? longer_[k + 1].first : at;
      if (live_.Max(longer_[k].first, end) + more > limit_) return false;
    }
    for (const auto& [from, bytes] : longer_) live_.Add(from, at, bytes);
    for (int c : MakesOf(problem_, step)) {
      if (!readers_.None(c)) {
        readers_.ForEach(c, [&](int entry) { schedule_.reads[entry] = before_[c]; });
        readers_.MoveAll(c, before_[c]);
      }
      Forget(c);  // an unread one too: none may be handed to it later
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
    if (before_[c] >= 0) behind_[before_[c]] = behind_[c];
    if (behind_[c] >= 0) before_[behind_[c]] = before_[c];
  }

  // The step goes, and with it the repetitions that nobody reads any more.
  void Drop(int at) {
    gone_[at] = 1;
    live_.Ignore(at);
    const Step& step = schedule_.steps[at];
    const auto reads = schedule_.ReadsOf(problem_, step);
    for (size_t k = 0; k < reads.size(); ++k) {
      readers_.Remove(reads[k], step.reads + static_cast<int>(k));
      const int maker = life_.first[reads[k]];
      if (gone_[maker] || !schedule_.steps[maker].again || !Unread(schedule_.steps[maker])) continue;
      for (int m : MakesOf(problem_, schedule_.steps[maker])) Forget(m);
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
  Heights live_;  // an upper bound while steps go
  Lifetimes life_;
  ReaderLists readers_;
  std::vector<int> before_, behind_;  // by copy
  std::vector<char> gone_;            // by step
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
