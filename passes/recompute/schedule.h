// A program that may run forward items again: what is computed when, and how many bytes are alive meanwhile.
#pragma once

#include <boost/range/irange.hpp>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "passes/recompute/problem.h"

namespace autospc::recompute {

// One run of an item. A copy is one computation of a storage: copies below Problem::stores.size() are the graph's
// own, by storage; a repetition makes new ones.
struct Step {
  int item = -1;
  bool again = false;  // a repetition
  int reads = 0;       // where its operands' copies stand in Schedule::reads, parallel to Item::reads
  int makes = 0;       // the copy of Item::makes[0]; the others follow it
};

struct Schedule {
  std::vector<Step> steps;
  std::vector<int> reads;     // copies that the steps read, see Step
  std::vector<int> store_of;  // by copy

  // Estimated seconds, of all steps and of the repetitions alone.
  double seconds = 0;
  double again_seconds = 0;
  int64_t peak = 0;           // most bytes alive in the arena at one step

  std::span<const int> ReadsOf(const Problem& problem, const Step& step) const {
    return {reads.data() + step.reads, problem.items[step.item].reads.size()};
  }
  std::span<int> ReadsOf(const Problem& problem, const Step& step) {
    return {reads.data() + step.reads, problem.items[step.item].reads.size()};
  }
};

// The copies that a step makes: [first, behind).
inline boost::integer_range<int> MakesOf(const Problem& problem, const Step& step) {
  return boost::irange(step.makes, step.makes + static_cast<int>(problem.items[step.item].makes.size()));
}

// For each copy the steps that read it, in order.
class Readers {
 public:
  Readers(const Problem& problem, const Schedule& schedule);
  std::span<const int> operator[](int copy) const {
    return {steps_.data() + first_[copy], static_cast<size_t>(first_[copy + 1] - first_[copy])};
  }

 private:
  std::vector<int> first_, steps_;
};

// Bytes alive at each step, scratch included; a result written over a dying operand counts once.
std::vector<int64_t> LiveBytes(const Problem& problem, const Schedule& schedule);

// Position of the step that makes a copy, and of the last that reads it (its maker if none does), by copy.
struct Lifetimes {
  std::vector<int> first, last;
};
Lifetimes FindLifetimes(const Problem& problem, const Schedule& schedule);

// Takes out the repetitions of which no result is read, and then those that served them alone. A first run goes too
// where only repetitions of it are read: the first of these takes its place, the item just runs later. Measures nothing.
void DropUnread(const Problem& problem, Schedule& schedule);

// Sets seconds, again_seconds and peak.
void Measure(const Problem& problem, Schedule& schedule);

// Forward items as they are; behind them, whenever an item reads a storage with keep[s] false, its maker runs again
// just before, its operands likewise. A copy made so serves readers up to `window` items later (at least the one that
// asked), then it is made anew: a small window is nested checkpointing. Storages whose maker can't run again are kept.
// Without steps where the whole would be more than three times as long as the graph.
// (Griewank and Walther, "Revolve"; Chen et al., "Training Deep Nets with Sublinear Memory Cost".)
Schedule Replay(const Problem& problem, const std::vector<bool>& keep, int window);

// Takes repetitions out again, the most seconds for a byte first, as long as the peak stays at or under `limit`: the
// copy before then lives on. Returns how many repetitions went.
int Refill(const Problem& problem, Schedule& schedule, int64_t limit);

// Lowers the peak: of the copies that are alive there unread, the one whose repetition costs the fewest seconds for a
// byte is let go until its next reader. Stops where no move lowers the peak, or after `moves`. `visit` sees the
// schedule after each move that lowered it. Returns how many moves there were.
// (The greedy scheme of XLA's HloRematerialization.)
template <typename Visit>
int Lower(const Problem& problem, Schedule& schedule, int moves, Visit visit);

// One move of Lower; false: none was found and the schedule is as it was.
bool LowerOnce(const Problem& problem, Schedule& schedule);

// visit(the schedule after it) for each of the dozen best moves of Lower, where it lowers.
void LowerEach(const Problem& problem, const Schedule& schedule, const std::function<void(Schedule)>& visit);

template <typename Visit>
int Lower(const Problem& problem, Schedule& schedule, int moves, Visit visit) {
  int made = 0;
  while (made < moves && LowerOnce(problem, schedule)) {
    ++made;
    visit(schedule);
  }
  return made;
}

}  // namespace autospc::recompute
