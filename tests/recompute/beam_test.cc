// Many schedules lowered at once: sound, the same each time, and better than the greedy choice alone.
#include "passes/recompute/beam.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "passes/recompute/rules.h"
#include "tests/recompute/interpret.h"
#include "tests/recompute/random_joint.h"

namespace autospc::recompute {
namespace {

using testing::Faults;

TEST(LowerMany, IsSoundAndFindsWhatGreedyMovesMiss) {
  std::mt19937 rng(31);
  int better = 0;
  for (int i = 0; i < 60; ++i) {
    const ir::Graph graph = testing::RandomJoint(rng, 8 + static_cast<int>(rng() % 12));
    const Problem problem = Describe(graph, testing::Traits, testing::Cost);
    const Schedule start = Replay(problem, KeepBy("none", graph, problem), 0);
    const std::vector<Schedule> made = LowerMany(problem, {start}, 16, 40);
    for (const Schedule& s : made) {
      const std::vector<std::string> faults = Faults(problem, s);
      ASSERT_TRUE(faults.empty()) << "graph " << i << ": " << faults[0];
      EXPECT_LE(s.peak, start.peak);
    }
    const std::vector<Schedule> again = LowerMany(problem, {start}, 16, 40);
    ASSERT_EQ(again.size(), made.size());
    for (size_t k = 0; k < made.size(); ++k) EXPECT_EQ(again[k].reads, made[k].reads);
    Schedule greedy = start;
    Lower(problem, greedy, 40, [](const Schedule&) {});
    better += std::any_of(made.begin(), made.end(), [&](const Schedule& s) { return s.peak <= greedy.peak && s.seconds < greedy.seconds - 1e-12; });
    EXPECT_EQ(made.empty(), greedy.steps.size() == start.steps.size() && greedy.peak == start.peak) << "graph " << i;
  }
  EXPECT_GT(better, 5);
}

TEST(LowerMany, NothingToLower) {
  EXPECT_TRUE(LowerMany(Problem{}, {}, 4, 4).empty());
  EXPECT_TRUE(LowerMany(Problem{}, {Schedule{}}, 4, 4).empty());
}

}  // namespace
}  // namespace autospc::recompute
