#include "passes/recompute/choose.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "passes/recompute/beam.h"
#include "passes/recompute/min_cut.h"
#include "passes/recompute/order.h"
#include "passes/recompute/rules.h"
#include "passes/recompute/segments.h"
#include "runtime/base/bytes.h"

namespace autospc::recompute {
namespace {

constexpr const char* kRules[] = {"none", "autosp", "layers", "full"};

// How far the search goes, by the number of instructions.
struct Effort {
  int cuts;      // of the price sweep
  int segments;  // of the forward pass at the most, as a power of two
  int windows;   // of replay, the longest first
  int limits;    // of the grid
  size_t bases;  // that are refilled to each limit
  int moves;     // of lowering, from each start
  size_t beam;   // schedules that are lowered at once
};

Effort EffortFor(size_t items) {
  if (items <= 100) return {64, 5, 4, 96, 8, 400, 16};
  if (items <= 400) return {64, 6, 4, 96, 4, 400, 2};
  if (items <= 2000) return {24, 7, 4, 48, 3, 60, 0};
  if (items <= 4000) return {12, 8, 2, 12, 2, 8, 0};
  return {8, 8, 2, 8, 2, 0, 0};
}

class Search {
 public:
  Search(const ir::Graph& graph, const Problem& problem)
      : graph_(graph), problem_(problem), effort_(EffortFor(problem.items.size())) {}

  std::vector<Candidate> Run() {
    const int all = static_cast<int>(problem_.items.size());
    for (const char* rule : kRules) Add(rule, Replay(problem_, KeepBy(rule, graph_, problem_), all), true);
    AddSweep();
    std::vector<size_t> lowest = Lowest(0, 3);
    const size_t segments = found_.size();
    AddSegments();
    // Segments make the smallest programs, cuts the faster ones just above them: both are lowered.
    for (const size_t at : Lowest(segments, 2)) lowest.push_back(at);
    AddLowered(lowest);
    AddBeam();
    AddRefilled();
    return Front();
  }

 private:
  struct Start {
    Candidate candidate;
    bool rule;
  };

  void Add(std::string label, Schedule schedule, bool rule = false) {
    if (schedule.steps.empty()) return;
    Reorder(problem_, schedule);
    found_.push_back({{std::move(label), std::move(schedule)}, rule});
  }

  void AddSweep() {
    const int backward = static_cast<int>(problem_.items.size()) - problem_.backward;
    const std::vector<Cut> cuts = SweepPrices(problem_, effort_.cuts);
    // A copy may serve the whole backward pass, or a part of it and be made again: deeper, slower.
    const std::vector<int> windows = effort_.windows > 2 ? std::vector<int>{backward, backward / 4, backward / 16, 0}
                                                         : std::vector<int>{backward, 0};
    for (const int window : windows) {
      for (size_t i = 1; i < cuts.size(); ++i) {
        // Only what saves much is worth making more than once.
        if (window < backward && cuts[i].bytes > cuts[0].bytes / 2) continue;
        Add(fmt::format("cut {}, window {}", i, window), Replay(problem_, cuts[i].keep, window));
      }
    }
  }

  void AddSegments() {
    const Segments segments(problem_);
    std::vector<bool> before;
    for (int power = 1; power <= effort_.segments; ++power) {
      std::vector<bool> keep = segments.KeepBorders(segments.backward_bytes() >> power);
      if (keep == before) continue;
      Add(fmt::format("segments {}", 1 << power), Replay(problem_, keep, static_cast<int>(problem_.items.size())));
      before = std::move(keep);
    }
  }

  // From some of those found, further down.
  void AddLowered(const std::vector<size_t>& starts) {
    for (const size_t at : starts) {
      Schedule schedule = found_[at].candidate.schedule;
      const std::string label = found_[at].candidate.label;
      int step = 0;
      Lower(problem_, schedule, effort_.moves, [&](const Schedule& now) {
        ++step;
        if (effort_.moves > 50 || step % 4 == 0) Add(fmt::format("{}, lowered {}", label, step), now);
      });
      if (step > 0) Add(fmt::format("{}, lowered {}", label, step), schedule);
    }
  }

  void AddBeam() {
    if (effort_.beam == 0) return;
    std::vector<Schedule> starts;
    for (const Start& s : found_) starts.push_back(s.candidate.schedule);
    int made = 0;
    for (Schedule& s : LowerMany(problem_, std::move(starts), effort_.beam, 40))
      Add(fmt::format("beam {}", ++made), std::move(s));
  }

  // At each limit of a grid, what fits under it is given back as much as fits.
  void AddRefilled() {
    int64_t low = found_[0].candidate.schedule.peak, high = low;
    for (const Start& s : found_) low = std::min(low, s.candidate.schedule.peak);
    if (low <= 0 || high <= low) return;
    const size_t starts = found_.size();
    for (int k = 0; k < effort_.limits; ++k) {
      const double fraction = static_cast<double>(k) / effort_.limits;
      const auto limit = static_cast<int64_t>(static_cast<double>(low) *
                                              std::pow(static_cast<double>(high) / static_cast<double>(low), fraction));
      // The fastest that fit, and the one that leaves most room.
      std::vector<size_t> fitting;
      for (size_t i = 0; i < starts; ++i) {
        if (found_[i].candidate.schedule.peak <= limit) fitting.push_back(i);
      }
      std::stable_sort(fitting.begin(), fitting.end(), [&](size_t a, size_t b) {
        return found_[a].candidate.schedule.seconds < found_[b].candidate.schedule.seconds;
      });
      if (fitting.size() > effort_.bases) fitting.resize(effort_.bases);
      for (const size_t i : fitting) {
        Schedule schedule = found_[i].candidate.schedule;
        if (Refill(problem_, schedule, limit) == 0 || schedule.peak > limit) continue;
        found_.push_back(
            {{fmt::format("{}, refilled to {}", found_[i].candidate.label, FormatBytes(limit)), std::move(schedule)},
             false});
      }
    }
  }

  // The lowest few of those found from `first` on.
  std::vector<size_t> Lowest(size_t first, size_t count) const {
    std::vector<size_t> order(found_.size() - first);
    std::iota(order.begin(), order.end(), first);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
      return found_[a].candidate.schedule.peak < found_[b].candidate.schedule.peak;
    });
    order.resize(std::min(count, order.size()));
    return order;
  }

  std::vector<Candidate> Front() {
    std::stable_sort(found_.begin(), found_.end(), [](const Start& a, const Start& b) {
      const Schedule &x = a.candidate.schedule, &y = b.candidate.schedule;
      return x.seconds != y.seconds ? x.seconds < y.seconds : x.peak < y.peak;
    });
    std::vector<Candidate> front;
    int64_t lowest = std::numeric_limits<int64_t>::max();
    for (Start& s : found_) {
      const int64_t peak = s.candidate.schedule.peak;
      if (peak >= lowest && !s.rule) continue;
      lowest = std::min(lowest, peak);
      front.push_back(std::move(s.candidate));
    }
    return front;
  }

  const ir::Graph& graph_;
  const Problem& problem_;
  const Effort effort_;
  std::vector<Start> found_;
};

}  // namespace

std::vector<Candidate> FindCandidates(const ir::Graph& graph, const Problem& problem, const std::string& rule) {
  if (rule == "auto") return Search(graph, problem).Run();
  std::vector<Candidate> one;
  one.push_back({rule, Replay(problem, KeepBy(rule, graph, problem), static_cast<int>(problem.items.size()))});
  Reorder(problem, one[0].schedule);
  return one;
}

}  // namespace autospc::recompute
