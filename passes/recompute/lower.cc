#include <algorithm>
#include <functional>
#include <set>

#include "passes/recompute/schedule.h"

namespace autospc::recompute {
namespace {

class Lowerer {
 public:
  Lowerer(const Problem& problem, const Schedule& schedule)
      : problem_(problem), schedule_(schedule), live_(LiveBytes(problem, schedule)), readers_(problem, schedule),
        life_(FindLifetimes(problem, schedule)), step_of_(problem.items.size(), -1), copies_(problem.stores.size()) {
    for (const Step& step : schedule.steps) {
      for (int c : MakesOf(problem, step)) copies_[schedule.store_of[c]].push_back(c);
    }
    for (size_t i = 0; i < schedule.steps.size(); ++i) {
      if (!schedule.steps[i].again) step_of_[schedule.steps[i].item] = static_cast<int>(i);
    }
  }

  // visit(the schedule after a move), for the best moves in turn, until it returns true. Whether it did.
  template <typename Visit>
  bool Run(Visit visit) {
    const int64_t peak = *std::max_element(live_.begin(), live_.end());
    at_ = static_cast<int>(std::find(live_.begin(), live_.end(), peak) - live_.begin());
    const auto peaks = std::count(live_.begin(), live_.end(), peak);
    struct Move {
      double score;
      int copy, next;
    };
    std::vector<Move> moves;
    for (int c = 0; c < static_cast<int>(schedule_.store_of.size()); ++c) {
      if (life_.first[c] < 0 || life_.first[c] >= at_ || life_.last[c] <= at_) continue;
      const Store& store = problem_.stores[schedule_.store_of[c]];
      if (store.fixed || store.bytes == 0 || !problem_.items[store.maker].repeatable) continue;
      const auto next = std::lower_bound(readers_[c].begin(), readers_[c].end(), at_);
      if (next == readers_[c].end() || *next == at_) continue;
      std::set<int> made;
      const double seconds = Cost(c, *next, made);
      if (seconds >= 0) moves.push_back({seconds / static_cast<double>(store.bytes), c, *next});
    }
    std::stable_sort(moves.begin(), moves.end(), [](const Move& a, const Move& b) { return a.score < b.score; });
    if (moves.size() > kTries) moves.resize(kTries);
    for (const Move& move : moves) {
      Schedule next = Evict(move.copy, move.next);
      Measure(problem_, next);
      if (next.peak > peak) continue;
      if (next.peak == peak) {
        const std::vector<int64_t> live = LiveBytes(problem_, next);
        if (std::count(live.begin(), live.end(), peak) >= peaks) continue;
      }
      if (visit(std::move(next))) return true;
    }
    return false;
  }

 private:
  static constexpr size_t kTries = 12;    // schedules made in search of one that helps
  static constexpr size_t kLongest = 48;  // items that one copy may take to make again

  // Whether copy `c` may be read at step `next` without being alive at the peak for that.
  bool Reaches(int c, int next) const {
    return life_.first[c] >= 0 && life_.first[c] < next && (life_.last[c] > at_ || life_.first[c] > at_);
  }

  // The step before which a repetition of `item` must stand.
  int Behind(const Item& item) const {
    return item.before < static_cast<int>(step_of_.size()) ? step_of_[item.before] : static_cast<int>(schedule_.steps.size());
  }

  // Seconds to make copy `c` again before step `next`, < 0: it can't be. `made`: items that do it already.
  double Cost(int c, int next, std::set<int>& made) const {
    const int maker = problem_.stores[schedule_.store_of[c]].maker;
    const Item& item = problem_.items[maker];
    if (!item.repeatable || next > Behind(item)) return -1;
    if (!made.insert(maker).second) return 0;
    if (made.size() > kLongest) return -1;
    double seconds = item.seconds;
    for (int read : schedule_.ReadsOf(problem_, schedule_.steps[life_.first[c]])) {
      const int available = Newest(read, next);
      if (Reaches(available, next)) continue;
      const double more = Cost(available, next, made);
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

  Schedule Evict(int c, int next) const {
    Schedule out;
    out.store_of = schedule_.store_of;
    out.reads = schedule_.reads;
    out.steps.reserve(schedule_.steps.size() + 1);
    out.steps.assign(schedule_.steps.begin(), schedule_.steps.begin() + next);
    std::vector<int> renamed(schedule_.store_of.size(), -1);  // by copy: the one that takes its place from `next` on
    Again(c, next, out, renamed);
    for (size_t i = next; i < schedule_.steps.size(); ++i) {
      const Step& step = schedule_.steps[i];
      out.steps.push_back(step);
      for (int& read : out.ReadsOf(problem_, step)) {
        if (renamed[read] >= 0) read = renamed[read];
      }
    }
    DropUnread(problem_, out);  // the copy let go, if nobody has read it before
    return out;
  }

  // The new copy that takes c's place.
  int Again(int c, int next, Schedule& out, std::vector<int>& renamed) const {
    if (renamed[c] >= 0) return renamed[c];
    const Step& first = schedule_.steps[life_.first[c]];
    const auto read = schedule_.ReadsOf(problem_, first);
    std::vector<int> reads(read.begin(), read.end());
    for (int& r : reads) {
      const int available = Newest(r, next);
      r = Reaches(available, next) ? available : Again(available, next, out, renamed);
    }
    Step step{first.item, true, static_cast<int>(out.reads.size()), static_cast<int>(out.store_of.size())};
    out.reads.insert(out.reads.end(), reads.begin(), reads.end());
    for (int m : MakesOf(problem_, first)) {
      renamed[m] = static_cast<int>(out.store_of.size());
      out.store_of.push_back(schedule_.store_of[m]);
    }
    out.steps.push_back(step);
    return renamed[c];
  }

  const Problem& problem_;
  const Schedule& schedule_;
  std::vector<int64_t> live_;
  Readers readers_;
  Lifetimes life_;
  std::vector<int> step_of_;              // by item: its first run
  std::vector<std::vector<int>> copies_;  // by store, in order
  int at_ = 0;                            // the peak's step
};

}  // namespace

bool LowerOnce(const Problem& problem, Schedule& schedule) {
  if (schedule.steps.empty()) return false;
  Schedule next;
  const auto take = [&](Schedule lowered) {
    next = std::move(lowered);
    return true;
  };
  if (!Lowerer(problem, schedule).Run(take)) return false;
  schedule = std::move(next);
  return true;
}

void LowerEach(const Problem& problem, const Schedule& schedule, const std::function<void(Schedule)>& visit) {
  if (schedule.steps.empty()) return;
  Lowerer(problem, schedule).Run([&](Schedule lowered) {
    visit(std::move(lowered));
    return false;
  });
}

}  // namespace autospc::recompute
