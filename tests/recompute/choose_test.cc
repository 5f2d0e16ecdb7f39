// The rules of others, the candidates, and the choice within a budget.
#include "passes/recompute/choose.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <limits>
#include <random>

#include "passes/ir/printer.h"
#include "passes/recompute/fit.h"
#include "passes/recompute/rules.h"
#include "tests/recompute/interpret.h"
#include "tests/recompute/problems.h"
#include "tests/recompute/random_joint.h"

namespace autospc::recompute {
namespace {

using testing::DescribeText;
using testing::Faults;
using testing::RandomJoint;

// Two layers of a matrix product and a relu, whose backward passes read what each made.
constexpr std::string_view kLayers = R"(graph @layers {
  input %x : f32[8, 16]{16, 1} user "x"
  input %w : f32[16, 16]{16, 1} parameter "w" grad
  input %u : f32[16, 16]{16, 1} parameter "u" grad
  %e = aten.exp.default(%x) : f32[8, 16]{16, 1} !mod "model.embed"
  %a = aten.mm.default(%e, %w) : f32[8, 16]{16, 1} !mod "model.layers.0.up"
  %b = aten.relu.default(%a) : f32[8, 16]{16, 1} !mod "model.layers.0.act"
  %c = aten.mm.default(%b, %u) : f32[8, 16]{16, 1} !mod "model.layers.1.up"
  %d = aten.relu.default(%c) : f32[8, 16]{16, 1} !mod "model.layers.1.act"
  %l = aten.sum.default(%d, none) : f32[]{}
  %gd = aten.mul.Tensor(%d, %l) : f32[8, 16]{16, 1} !phase backward
  %gc = aten.mul.Tensor(%gd, %c) : f32[8, 16]{16, 1} !phase backward
  %gb = aten.mul.Tensor(%gc, %b) : f32[8, 16]{16, 1} !phase backward
  %ga = aten.mul.Tensor(%gb, %a) : f32[8, 16]{16, 1} !phase backward
  %ge = aten.mul.Tensor(%ga, %e) : f32[8, 16]{16, 1} !phase backward
  output loss %l "loss"
  output user %ge "ge"
})";

std::vector<std::string> Kept(const std::string& rule) {
  const auto [graph, problem] = DescribeText(kLayers);
  const std::vector<bool> keep = KeepBy(rule, graph, problem);
  std::vector<std::string> kept;
  for (size_t s = 0; s < keep.size() && problem.stores[s].maker < problem.backward; ++s) {
    if (keep[s]) kept.push_back(graph.value(problem.stores[s].value).name);
  }
  return kept;
}

TEST(Rules, KeepWhatTheySay) {
  EXPECT_EQ(Kept("none"), (std::vector<std::string>{"e", "a", "b", "c", "d", "l"}));
  EXPECT_TRUE(Kept("full").empty());
  EXPECT_EQ(Kept("layers"), (std::vector<std::string>{"e", "b", "d", "l"})) << "what one layer gives to another, and what none makes";
  EXPECT_EQ(Kept("autosp"), (std::vector<std::string>{"a", "c"})) << "matrix products";
}

TEST(Rules, ALayerIsUpToItsFirstNumber) {
  EXPECT_EQ(LayerOf("model.layers.3.mlp.act_fn"), "model.layers.3");
  EXPECT_EQ(LayerOf("h.11"), "h.11");
  EXPECT_EQ(LayerOf("experts.0.layers.1"), "experts.0");
  EXPECT_EQ(LayerOf("model.norm"), "");
  EXPECT_EQ(LayerOf("model.layer2.norm"), "") << "no component is a number";
  EXPECT_EQ(LayerOf(""), "");
}

TEST(Rules, EachIsOneCandidate) {
  const auto [graph, problem] = DescribeText(kLayers);
  double slowest = 0;
  for (const char* rule : {"none", "full", "layers", "autosp"}) {
    const std::vector<Candidate> found = FindCandidates(graph, problem, rule);
    ASSERT_EQ(found.size(), 1u);
    EXPECT_EQ(found[0].label, rule);
    EXPECT_TRUE(Faults(problem, found[0].schedule).empty());
    EXPECT_EQ(found[0].schedule.again_seconds == 0, std::string(rule) == "none");
    slowest = std::max(slowest, found[0].schedule.seconds);
  }
  EXPECT_EQ(slowest, FindCandidates(graph, problem, "full")[0].schedule.seconds) << "nothing runs more than all again";
}

TEST(Candidates, AreSoundInOrderAndEachWorthItsTime) {
  std::mt19937 rng(21);
  int several = 0;
  for (int i = 0; i < 25; ++i) {
    const ir::Graph graph = RandomJoint(rng, 20 + static_cast<int>(rng() % 30));
    const Problem problem = Describe(graph, testing::Traits, testing::Cost);
    const std::vector<Candidate> found = FindCandidates(graph, problem, "auto");
    const auto rule = [](const Candidate& c) { return c.label == "none" || c.label == "full" || c.label == "layers" || c.label == "autosp"; };
    EXPECT_EQ(std::count_if(found.begin(), found.end(), rule), 4) << "graph " << i;
    int64_t lowest = std::numeric_limits<int64_t>::max();
    double before = 0;
    for (const Candidate& c : found) {
      const std::vector<std::string> faults = Faults(problem, c.schedule);
      ASSERT_TRUE(faults.empty()) << "graph " << i << ", " << c.label << ": " << faults[0];
      EXPECT_GE(c.schedule.seconds, before);
      before = c.schedule.seconds;
      EXPECT_TRUE(rule(c) || c.schedule.peak < lowest) << c.label << ": another is as fast and no larger";
      lowest = std::min(lowest, c.schedule.peak);
    }
    several += found.size() > 6;
    const std::vector<Candidate> again = FindCandidates(graph, problem, "auto");
    ASSERT_EQ(again.size(), found.size());
    for (size_t k = 0; k < found.size(); ++k) {
      EXPECT_EQ(again[k].label, found[k].label);
      EXPECT_EQ(again[k].schedule.reads, found[k].schedule.reads);
    }
  }
  EXPECT_GT(several, 3) << "most random graphs leave little to choose, but not all";
}

// Fifty budgets: never above, never slower nor larger where there is more, and an answer that fits from the lowest on.
TEST(ChooseWithin, IsMonotoneAndNeverAbove) {
  std::mt19937 rng(22);
  int steps = 0;
  for (int i = 0; i < 12; ++i) {
    const ir::Graph graph = RandomJoint(rng, 20 + static_cast<int>(rng() % 40));
    std::deque<Form> forms(1);
    forms[0].graph = &graph;
    forms[0].problem = Describe(graph, testing::Traits, testing::Cost);
    forms[0].candidates = FindCandidates(graph, forms[0].problem, "auto");
    const auto choose = [&](int64_t budget) {
      Result<Choice> choice = ChooseWithin(forms, budget, testing::Traits);
      EXPECT_TRUE(choice.ok()) << choice.error().Format();
      return std::move(*choice);
    };
    const Choice free = choose(0), least = choose(1);
    EXPECT_TRUE(free.fits);
    EXPECT_FALSE(least.fits);
    EXPECT_GT(least.arena_bytes, 0);
    EXPECT_EQ(least.peak_bytes, least.arena_bytes + forms[0].problem.persistent_bytes);
    EXPECT_EQ(forms[0].candidates[free.candidate].schedule.again_seconds, 0) << "without a budget the fastest";
    const auto seconds = [&](const Choice& c) { return forms[0].candidates[c.candidate].schedule.seconds; };
    int64_t peak = 0;
    double slowest = std::numeric_limits<double>::infinity();
    for (int k = 0; k < 50; ++k) {
      const int64_t budget = least.peak_bytes + (free.peak_bytes - least.peak_bytes) * k / 49;
      const Choice choice = choose(budget);
      ASSERT_TRUE(choice.fits) << "graph " << i << ": the lowest is a budget that fits";
      EXPECT_LE(choice.peak_bytes, budget);
      EXPECT_GE(choice.peak_bytes, peak) << "a lower budget gives a higher peak";
      EXPECT_LE(seconds(choice), slowest) << "more memory is slower";
      steps += choice.peak_bytes > peak;
      peak = choice.peak_bytes;
      slowest = seconds(choice);
    }
    const Choice below = choose(least.peak_bytes - 1);
    EXPECT_TRUE(!below.fits || below.peak_bytes < least.peak_bytes);
    EXPECT_EQ(choose(free.peak_bytes).candidate, free.candidate);
  }
  EXPECT_GT(steps, 24) << "the budgets matter";
}

TEST(ChooseWithin, TheFasterFormThatFits) {
  const auto [graph, problem] = DescribeText(kLayers);
  std::deque<Form> forms(2);
  forms[0] = {"", &graph, problem, FindCandidates(graph, problem, "none"), 0};
  Problem slow = problem;
  for (Item& item : slow.items) item.seconds *= 1.5;
  forms[1] = {"slow", &graph, slow, FindCandidates(graph, slow, "auto"), 0};
  const Result<Choice> free = ChooseWithin(forms, 0, testing::Traits);
  ASSERT_TRUE(free.ok());
  EXPECT_EQ(free->form, 0);
  const Result<Choice> tight = ChooseWithin(forms, free->peak_bytes - 1, testing::Traits);
  ASSERT_TRUE(tight.ok());
  EXPECT_TRUE(tight->fits);
  EXPECT_EQ(tight->form, 1);
}

TEST(ChooseWithin, NoCandidateIsABug) {
  const Result<Choice> none = ChooseWithin(std::deque<Form>(), 0, testing::Traits);
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().what.find("no candidate"), std::string::npos);
}

}  // namespace
}  // namespace autospc::recompute
