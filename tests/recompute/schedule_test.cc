// Schedules of random joint graphs: what is alive, what each operation on them keeps and what it improves.
#include "passes/recompute/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "passes/memory/plan.h"
#include "passes/recompute/materialise.h"
#include "passes/recompute/min_cut.h"
#include "passes/recompute/order.h"
#include "passes/recompute/rules.h"
#include "tests/recompute/interpret.h"
#include "tests/recompute/random_joint.h"

namespace autospc::recompute {
namespace {

using testing::CountLiveBytes;
using testing::DigestRun;
using testing::Faults;
using testing::RandomJoint;

constexpr int kGraphs = 150;

std::vector<bool> RandomKeep(const Problem& problem, std::mt19937& rng, unsigned one_in) {
  std::vector<bool> keep;
  for (size_t s = 0; s < problem.stores.size(); ++s) keep.push_back(rng() % one_in == 0);
  return keep;
}

// A schedule as the search makes them: replayed with some window, reordered, lowered, refilled, each at times.
Schedule RandomSchedule(const Problem& problem, std::mt19937& rng) {
  const int windows[] = {0, 1, 5, 1000};
  Schedule schedule = Replay(problem, RandomKeep(problem, rng, 2 + rng() % 4), windows[rng() % 4]);
  for (int k = 0; k < 3; ++k) {
    switch (rng() % 4) {
      case 0: Reorder(problem, schedule); break;
      case 1: LowerOnce(problem, schedule); break;
      case 2: Refill(problem, schedule, schedule.peak + static_cast<int64_t>(rng() % 1000)); break;
      default: break;
    }
  }
  return schedule;
}

struct Drawn {
  ir::Graph graph;
  Problem problem;
};
Drawn Draw(std::mt19937& rng) {
  Drawn d;
  d.graph = RandomJoint(rng, 4 + static_cast<int>(rng() % 24));
  EXPECT_TRUE(ir::Verify(d.graph).empty()) << ir::Verify(d.graph)[0] << "\n" << ir::Print(d.graph);
  d.problem = Describe(d.graph, testing::Traits, testing::Cost);
  return d;
}

// Sound, and as a graph: well formed, planned, of the bytes that were foretold, computing the same.
void ExpectSound(const Drawn& d, const Schedule& schedule, int number) {
  const std::vector<std::string> faults = Faults(d.problem, schedule);
  ASSERT_TRUE(faults.empty()) << "graph " << number << ": " << faults[0] << "\n" << ir::Print(d.graph);
  const ir::Graph made = Materialise(d.graph, d.problem, schedule);
  const std::vector<std::string> violations = ir::Verify(made);
  ASSERT_TRUE(violations.empty()) << "graph " << number << ": " << violations[0];
  const Result<memory::MemoryPlan> plan = memory::PlanMemory(made, testing::Traits);
  ASSERT_TRUE(plan.ok()) << "graph " << number << ": " << plan.error().Format();
  EXPECT_EQ(plan->live_bytes, schedule.peak) << "graph " << number << "\n" << ir::Print(made);
  const DigestRun run(made);
  EXPECT_EQ(run.Outputs(), DigestRun(d.graph).Outputs()) << "graph " << number << "\n" << ir::Print(d.graph) << ir::Print(made);
  EXPECT_EQ(run.instructions(), static_cast<int>(schedule.steps.size())) << "graph " << number;
}

TEST(Schedule, TheGraphsOwnIsAsThePlannerSeesIt) {
  std::mt19937 rng(1);
  for (int i = 0; i < kGraphs; ++i) {
    const Drawn d = Draw(rng);
    const Schedule own = Replay(d.problem, KeepBy("none", d.graph, d.problem), 0);
    EXPECT_EQ(own.again_seconds, 0);
    EXPECT_EQ(own.steps.size(), d.problem.items.size());
    ExpectSound(d, own, i);
    if (HasFatalFailure()) return;
  }
}

TEST(Schedule, RandomOnesAreSoundAndComputeTheSame) {
  std::mt19937 rng(2);
  int repeated = 0, can_repeat = 0;
  for (int i = 0; i < 2 * kGraphs; ++i) {
    const Drawn d = Draw(rng);
    const Schedule schedule = RandomSchedule(d.problem, rng);
    can_repeat += Replay(d.problem, KeepBy("full", d.graph, d.problem), 0).again_seconds > 0;
    repeated += schedule.again_seconds > 0;
    ExpectSound(d, schedule, i);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(2 * repeated, can_repeat) << "the schedules repeat something";
  EXPECT_GT(can_repeat, kGraphs);
}

TEST(Schedule, LiveBytesAreThoseCountedCopyByCopy) {
  std::mt19937 rng(3);
  for (int i = 0; i < kGraphs; ++i) {
    const Drawn d = Draw(rng);
    const Schedule schedule = RandomSchedule(d.problem, rng);
    ASSERT_EQ(LiveBytes(d.problem, schedule), CountLiveBytes(d.problem, schedule)) << "graph " << i;
  }
}

// What is not kept is made again where the backward pass asks for it, and made anew behind the window.
TEST(Replay, KeepsWhatItIsToldTo) {
  std::mt19937 rng(4);
  int shorter = 0;
  for (int i = 0; i < kGraphs; ++i) {
    const Drawn d = Draw(rng);
    const std::vector<bool> keep = RandomKeep(d.problem, rng, 3);
    const Schedule once = Replay(d.problem, keep, static_cast<int>(d.problem.items.size()));
    std::vector<int> copies(d.problem.stores.size(), 0);
    for (size_t c = d.problem.stores.size(); c < once.store_of.size(); ++c) ++copies[once.store_of[c]];
    for (size_t s = 0; s < copies.size(); ++s) EXPECT_LE(copies[s], 1) << "a copy serves the whole backward pass";
    const Readers readers(d.problem, once);
    for (size_t s = 0; s < keep.size(); ++s) {
      const Item& maker = d.problem.items[d.problem.stores[s].maker];
      if (keep[s] || !maker.repeatable) continue;
      for (const int step : readers[static_cast<int>(s)]) {
        const int item = once.steps[step].item;
        EXPECT_TRUE(item < d.problem.backward || item > maker.before) << "graph " << i << ": read in the backward pass, but not kept";
      }
    }
    const Schedule often = Replay(d.problem, keep, 0);
    EXPECT_GE(often.seconds, once.seconds - 1e-15);
    shorter += often.seconds > once.seconds + 1e-15;
  }
  EXPECT_GT(shorter, 10) << "the window matters";
}

TEST(Refill, StaysUnderTheLimitAndIsNeverSlower) {
  std::mt19937 rng(5);
  int faster = 0;
  for (int i = 0; i < kGraphs; ++i) {
    const Drawn d = Draw(rng);
    Schedule schedule = Replay(d.problem, RandomKeep(d.problem, rng, 4), rng() % 2 ? 1000 : 0);
    const Schedule before = schedule;
    const int64_t limit = before.peak + static_cast<int64_t>(rng() % 4) * 700;
    const int gone = Refill(d.problem, schedule, limit);
    EXPECT_LE(schedule.peak, limit) << "graph " << i;
    EXPECT_LE(schedule.seconds, before.seconds) << "graph " << i;
    EXPECT_EQ(gone == 0, schedule.steps.size() == before.steps.size());
    faster += schedule.seconds < before.seconds;
    ExpectSound(d, schedule, i);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(faster, kGraphs / 3);
}

TEST(Refill, WithoutALimitNothingIsRepeated) {
  std::mt19937 rng(6);
  for (int i = 0; i < kGraphs; ++i) {
    const Drawn d = Draw(rng);
    Schedule schedule = Replay(d.problem, RandomKeep(d.problem, rng, 4), static_cast<int>(rng() % 3));
    Refill(d.problem, schedule, std::numeric_limits<int64_t>::max() / 8);
    EXPECT_EQ(schedule.again_seconds, 0) << "graph " << i;
    EXPECT_EQ(schedule.peak, Replay(d.problem, KeepBy("none", d.graph, d.problem), 0).peak);
  }
}

TEST(Lower, LowersThePeakOrTheStepsAtIt) {
  std::mt19937 rng(7);
  int lowered = 0;
  for (int i = 0; i < kGraphs; ++i) {
    const Drawn d = Draw(rng);
    Schedule schedule = Replay(d.problem, KeepBy("none", d.graph, d.problem), 0);
    const Schedule first = schedule;
    Schedule last = schedule;
    const int moves = Lower(d.problem, schedule, 40, [&](const Schedule& now) {
      EXPECT_LE(now.peak, last.peak) << "graph " << i;
      if (now.peak == last.peak) {
        const auto at_peak = [&](const Schedule& s) {
          const std::vector<int64_t> live = LiveBytes(d.problem, s);
          return std::count(live.begin(), live.end(), s.peak);
        };
        EXPECT_LT(at_peak(now), at_peak(last)) << "graph " << i;
      }
      last = now;
    });
    lowered += schedule.peak < first.peak;
    if (moves == 0) {
      EXPECT_EQ(schedule.steps.size(), first.steps.size()) << "graph " << i;
    }
    ExpectSound(d, schedule, i);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(lowered, kGraphs / 6);
}

TEST(Reorder, LowersThePeakOrLeavesTheSchedule) {
  std::mt19937 rng(8);
  int lowered = 0;
  for (int i = 0; i < kGraphs; ++i) {
    const Drawn d = Draw(rng);
    Schedule schedule = RandomSchedule(d.problem, rng);
    const Schedule before = schedule;
    const bool changed = Reorder(d.problem, schedule);
    lowered += changed;
    EXPECT_EQ(changed, schedule.peak < before.peak);
    EXPECT_EQ(schedule.steps.size(), before.steps.size());
    ExpectSound(d, schedule, i);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(lowered, 10);
}

}  // namespace
}  // namespace autospc::recompute
