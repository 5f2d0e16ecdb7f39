#include "passes/recompute/schedule.h"

#include <algorithm>
#include <numeric>
#include <set>

namespace autospc::recompute {

Lifetimes FindLifetimes(const Schedule& schedule) {
  Lifetimes life;
  life.first.assign(schedule.store_of.size(), -1);
  life.last.assign(schedule.store_of.size(), -1);
  for (size_t i = 0; i < schedule.steps.size(); ++i) {
    const int at = static_cast<int>(i);
    for (int c : schedule.steps[i].makes) life.first[c] = life.last[c] = at;
    for (int c : schedule.steps[i].reads) life.last[c] = at;
  }
  return life;
}

std::vector<int64_t> LiveBytes(const Problem& problem, const Schedule& schedule) {
  const Lifetimes life = FindLifetimes(schedule);
  const size_t n = schedule.steps.size();
  std::vector<int64_t> change(n + 1, 0);
  std::vector<int64_t> live(n, 0);
  std::vector<bool> taken(schedule.store_of.size(), false);
  std::vector<int> used;
  for (size_t i = 0; i < n; ++i) {
    const Step& step = schedule.steps[i];
    const Item& item = problem.items[step.item];
    const int at = static_cast<int>(i);
    for (size_t m = 0; m < step.makes.size(); ++m) {
      const int copy = step.makes[m];
      const int64_t bytes = problem.stores[schedule.store_of[copy]].bytes;
      int from = at;
      for (const auto& [make, read] : item.in_place) {
        const int over = step.reads[read];
        if (make != static_cast<int>(m) || life.last[over] != at || taken[over]) continue;
        taken[over] = true;  // it dies here, so nobody asks again
        from = at + 1;
        break;
      }
      if (from > life.last[copy]) continue;  // dead at once, over its operand
      change[from] += bytes;
      change[life.last[copy] + 1] -= bytes;
    }
  }
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
    for (int i = 0; i < static_cast<int>(problem_.items.size()); ++i) {
      const Item& item = problem_.items[i];
      Step step{i, false, item.reads, item.makes};
      if (i >= problem_.backward) {
        at_ = i;
        for (int& read : step.reads) read = Ensure(read);
      }
      out_.steps.push_back(std::move(step));
    }
    Measure(problem_, out_);
    return std::move(out_);
  }

 private:
  // The copy of storage `s` that the item at hand reads.
  int Ensure(int s) {
    const Item& item = problem_.items[problem_.stores[s].maker];
    if (keep_[s] || !item.repeatable || at_ > item.before) return s;
    if (copy_[s] >= 0 && at_ - made_at_[s] <= window_) return copy_[s];
    Step step{problem_.stores[s].maker, true, item.reads, {}};
    for (int& read : step.reads) read = Ensure(read);
    for (int made : item.makes) {
      step.makes.push_back(static_cast<int>(out_.store_of.size()));
      out_.store_of.push_back(made);
      copy_[made] = step.makes.back();
      made_at_[made] = at_;
    }
    out_.steps.push_back(std::move(step));
    return copy_[s];
  }

  const Problem& problem_;
  const std::vector<bool>& keep_;
  const int window_;
  Schedule out_;
  std::vector<int> copy_, made_at_;  // by store: the newest repetition's copy, and the item that asked for it
  int at_ = 0;
};

// Which steps read each copy.
std::vector<std::vector<int>> FindReaders(const Schedule& schedule) {
  std::vector<std::vector<int>> readers(schedule.store_of.size());
  for (size_t i = 0; i < schedule.steps.size(); ++i) {
    for (int c : schedule.steps[i].reads) readers[c].push_back(static_cast<int>(i));
  }
  return readers;
}

}  // namespace

Schedule Replay(const Problem& problem, const std::vector<bool>& keep, int window) {
  return Replayer(problem, keep, window).Run();
}

// --- Refill ---------------------------------------------------------------------------------------------------------

namespace {

class Refiller {
 public:
  Refiller(const Problem& problem, Schedule& schedule, int64_t limit)
      : problem_(problem), schedule_(schedule), limit_(limit), live_(LiveBytes(problem, schedule)),
        readers_(FindReaders(schedule)), life_(FindLifetimes(schedule)) {}

  int Run() {
    FindPredecessors();
    std::vector<std::pair<double, int>> order;  // seconds for a byte, the step
    for (size_t i = 0; i < schedule_.steps.size(); ++i) {
      const Step& step = schedule_.steps[i];
      if (!step.again) continue;
      int64_t bytes = 0;
      for (int c : step.makes) {
        if (!readers_[c].empty()) bytes += problem_.stores[schedule_.store_of[c]].bytes;
      }
      order.emplace_back(-Exclusive(static_cast<int>(i)) / static_cast<double>(std::max<int64_t>(bytes, 1)), static_cast<int>(i));
    }
    std::stable_sort(order.begin(), order.end());
    gone_.assign(schedule_.steps.size(), false);
    int removed = 0;
    for (const auto& [score, at] : order) removed += !gone_[at] && Remove(at);
    if (removed > 0) Compact();
    return removed;
  }

 private:
  // The copy of the same storage made last before each repetition's.
  void FindPredecessors() {
    before_.assign(schedule_.store_of.size(), -1);
    std::vector<int> newest(problem_.stores.size(), -1);
    for (const Step& step : schedule_.steps) {
      for (int c : step.makes) {
        int& n = newest[schedule_.store_of[c]];
        before_[c] = n;
        n = c;
      }
    }
  }

  // Seconds that go with a step: its own, and those of repetitions that serve it alone.
  double Exclusive(int at) const {
    double seconds = problem_.items[schedule_.steps[at].item].seconds;
    for (int c : schedule_.steps[at].reads) {
      const int maker = life_.first[c];
      if (!schedule_.steps[maker].again || readers_[c].size() != 1) continue;
      const auto& makes = schedule_.steps[maker].makes;
      if (std::all_of(makes.begin(), makes.end(), [&](int m) { return m == c || readers_[m].empty(); })) seconds += Exclusive(maker);
    }
    return seconds;
  }

  bool Remove(int at) {
    const Step& step = schedule_.steps[at];
    // The copy before lives from its last reader to this step; there must be room for all of the step's results.
    std::vector<std::pair<int, int64_t>> longer;  // from, bytes
    for (int c : step.makes) {
      if (readers_[c].empty()) continue;
      if (before_[c] < 0) return false;  // another order has put this one first
      const int last = LastReader(before_[c]);
      longer.emplace_back(HandsOver(last, before_[c]) ? last : last + 1, problem_.stores[schedule_.store_of[c]].bytes);
    }
    if (longer.empty()) return false;
    std::sort(longer.begin(), longer.end());
    int64_t more = 0;
    for (size_t k = 0; k < longer.size(); ++k) {
      more += longer[k].second;
      const int end = k + 1 < longer.size() ? longer[k + 1].first : at;
      for (int i = longer[k].first; i < end; ++i) {
        if (!gone_[i] && live_[i] + more > limit_) return false;
      }
    }
    for (const auto& [from, bytes] : longer) {
      for (int i = from; i < at; ++i) live_[i] += bytes;
    }
    for (int c : step.makes) {
      if (readers_[c].empty()) continue;
      std::vector<int>& heir = readers_[before_[c]];
      for (int r : readers_[c]) {
        std::replace(schedule_.steps[r].reads.begin(), schedule_.steps[r].reads.end(), c, before_[c]);
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
    const auto& reads = schedule_.steps[at].reads;
    return std::any_of(in_place.begin(), in_place.end(), [&](const auto& pair) { return pair.second < static_cast<int>(reads.size()) && reads[pair.second] == c; });
  }

  int LastReader(int c) const { return readers_[c].empty() ? life_.first[c] : readers_[c].back(); }

  // Copies after `c` of its storage now follow the one before it.
  void Forget(int c) {
    readers_[c].clear();
    for (size_t n = 0; n < before_.size(); ++n) {
      if (before_[n] == c) before_[n] = before_[c];
    }
  }

  // The step goes, and with it the repetitions that nobody reads any more.
  void Drop(int at) {
    gone_[at] = true;
    for (int c : schedule_.steps[at].reads) {
      std::vector<int>& readers = readers_[c];
      readers.erase(std::remove(readers.begin(), readers.end(), at), readers.end());
      const int maker = life_.first[c];
      const Step& step = schedule_.steps[maker];
      if (gone_[maker] || !step.again) continue;
      if (!std::all_of(step.makes.begin(), step.makes.end(), [&](int m) { return readers_[m].empty(); })) continue;
      for (int m : step.makes) Forget(m);
      Drop(maker);
    }
  }

  void Compact() {
    std::vector<Step> kept;
    for (size_t i = 0; i < schedule_.steps.size(); ++i) {
      if (!gone_[i]) kept.push_back(std::move(schedule_.steps[i]));
    }
    schedule_.steps = std::move(kept);
    Measure(problem_, schedule_);
  }

  const Problem& problem_;
  Schedule& schedule_;
  const int64_t limit_;
  std::vector<int64_t> live_;  // an upper bound while steps go
  std::vector<std::vector<int>> readers_;
  Lifetimes life_;
  std::vector<int> before_;    // by copy
  std::vector<bool> gone_;
};

}  // namespace

int Refill(const Problem& problem, Schedule& schedule, int64_t limit) {
  int removed = 0;
  // What goes makes room (its operands die earlier), which the bound above does not see: a second look does.
  for (int round = 0; round < 4; ++round) {
    const int now = Refiller(problem, schedule, limit).Run();
    removed += now;
    if (now == 0) break;
  }
  return removed;
}

// --- Lower ----------------------------------------------------------------------------------------------------------

namespace {

class Lowerer {
 public:
  Lowerer(const Problem& problem, const Schedule& schedule)
      : problem_(problem), schedule_(schedule), live_(LiveBytes(problem, schedule)), readers_(FindReaders(schedule)),
        life_(FindLifetimes(schedule)), item_at_(schedule.steps.size()), copies_(problem.stores.size()) {
    for (const Step& step : schedule.steps) {
      for (int c : step.makes) copies_[schedule.store_of[c]].push_back(c);
    }
    int next = static_cast<int>(problem.items.size());
    for (size_t i = schedule.steps.size(); i-- > 0;) {
      if (!schedule.steps[i].again) next = schedule.steps[i].item;
      item_at_[i] = next;
    }
  }

  // The best schedule of one move, or false.
  bool Run(Schedule* result) {
    const int64_t peak = *std::max_element(live_.begin(), live_.end());
    const int at = static_cast<int>(std::find(live_.begin(), live_.end(), peak) - live_.begin());
    const auto peaks = std::count(live_.begin(), live_.end(), peak);
    struct Move {
      double score;
      int copy, next;
    };
    std::vector<Move> moves;
    for (int c = 0; c < static_cast<int>(schedule_.store_of.size()); ++c) {
      if (life_.first[c] < 0 || life_.first[c] >= at || life_.last[c] <= at) continue;
      const Store& store = problem_.stores[schedule_.store_of[c]];
      if (store.fixed || store.bytes == 0 || !problem_.items[store.maker].repeatable) continue;
      const auto next = std::lower_bound(readers_[c].begin(), readers_[c].end(), at);
      if (next == readers_[c].end() || *next == at) continue;
      const double seconds = Cost(c, *next, at);
      if (seconds < 0) continue;
      moves.push_back({seconds / static_cast<double>(store.bytes), c, *next});
    }
    std::stable_sort(moves.begin(), moves.end(), [](const Move& a, const Move& b) { return a.score < b.score; });
    int tried = 0;
    for (const Move& move : moves) {
      if (++tried > kTries) break;
      Schedule next = Evict(move.copy, move.next, at);
      Measure(problem_, next);
      if (next.peak > peak) continue;
      if (next.peak == peak) {
        const std::vector<int64_t> live = LiveBytes(problem_, next);
        if (std::count(live.begin(), live.end(), peak) >= peaks) continue;
      }
      *result = std::move(next);
      return true;
    }
    return false;
  }

 private:
  static constexpr int kTries = 24;

  // Whether copy `c` may be read at step `next` without being alive at step `at` for that.
  bool Reaches(int c, int next, int at) const {
    return life_.first[c] >= 0 && life_.first[c] < next && (life_.last[c] >= next || life_.last[c] > at || life_.first[c] > at);
  }

  // Seconds to make copy `c` again before step `next`, < 0: it can't be.
  double Cost(int c, int next, int at) {
    std::set<int> made;
    return CostOf(c, next, at, made);
  }

  double CostOf(int c, int next, int at, std::set<int>& made) {
    const Store& store = problem_.stores[schedule_.store_of[c]];
    const Item& item = problem_.items[store.maker];
    if (!item.repeatable || item_at_[next] > item.before) return -1;
    if (!made.insert(store.maker).second) return 0;
    double seconds = item.seconds;
    const Step& step = schedule_.steps[life_.first[c]];
    for (int read : step.reads) {
      const int available = Newest(read, next);
      if (Reaches(available, next, at)) continue;
      const double more = CostOf(available, next, at, made);
      if (more < 0) return -1;
      seconds += more;
    }
    return seconds;
  }

  // The last copy of c's storage that is made before step `next`.
  int Newest(int c, int next) const {
    int newest = c;
    for (int other : copies_[schedule_.store_of[c]]) {
      if (life_.first[other] < next) newest = other;
    }
    return newest;
  }

  Schedule Evict(int c, int next, int at) const {
    Schedule out;
    out.store_of = schedule_.store_of;
    std::vector<int> renamed(problem_.stores.size(), -1);  // by store: the new copy for readers at and behind `next`
    std::vector<int> old(problem_.stores.size(), -1);
    out.steps.assign(schedule_.steps.begin(), schedule_.steps.begin() + next);
    Again(c, next, at, out, renamed, old);
    for (size_t i = next; i < schedule_.steps.size(); ++i) {
      out.steps.push_back(schedule_.steps[i]);
      for (int& read : out.steps.back().reads) {
        const int store = schedule_.store_of[read];
        if (renamed[store] >= 0 && read == old[store]) read = renamed[store];
      }
    }
    return out;
  }

  int Again(int c, int next, int at, Schedule& out, std::vector<int>& renamed, std::vector<int>& old) const {
    const int store = schedule_.store_of[c];
    if (renamed[store] >= 0) return renamed[store];
    const Item& item = problem_.items[problem_.stores[store].maker];
    Step step{problem_.stores[store].maker, true, schedule_.steps[life_.first[c]].reads, {}};
    for (int& read : step.reads) {
      const int available = Newest(read, next);
      read = Reaches(available, next, at) ? available : Again(available, next, at, out, renamed, old);
    }
    const Step& first = schedule_.steps[life_.first[c]];
    for (size_t m = 0; m < item.makes.size(); ++m) {
      const int made = static_cast<int>(out.store_of.size());
      step.makes.push_back(made);
      out.store_of.push_back(item.makes[m]);
      renamed[item.makes[m]] = made;
      old[item.makes[m]] = first.makes[m];
    }
    out.steps.push_back(std::move(step));
    return renamed[store];
  }

  const Problem& problem_;
  const Schedule& schedule_;
  std::vector<int64_t> live_;
  std::vector<std::vector<int>> readers_;
  Lifetimes life_;
  std::vector<int> item_at_;  // by step: the graph's own item that it stands before, or is
  std::vector<std::vector<int>> copies_;  // by store, in order
};

}  // namespace

bool LowerOnce(const Problem& problem, Schedule& schedule) {
  Schedule next;
  if (!Lowerer(problem, schedule).Run(&next)) return false;
  schedule = std::move(next);
  return true;
}

}  // namespace autospc::recompute
