// What a joint graph is described as, and what a schedule becomes as a graph, on texts.
#include "passes/recompute/problem.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "passes/ir/printer.h"
#include "passes/memory/plan.h"
#include "passes/recompute/materialise.h"
#include "passes/recompute/schedule.h"
#include "tests/recompute/interpret.h"
#include "tests/recompute/problems.h"

namespace autospc::recompute {
namespace {

using testing::DescribeText;
using testing::DigestRun;

// A parameter and its alias, one of which is updated inside the step; a view; several results; a reduction in place.
constexpr std::string_view kStep = R"(graph @step {
  input %x : f32[8, 16]{16, 1} user "x"
  input %w : f32[16, 16]{16, 1} parameter "w" grad
  input %tied : f32[16, 16]{16, 1} parameter "tied" grad alias "w"
  input %lr : f64[]{} state "lr"
  %a = aten.mm.default(%x, %w) : f32[8, 16]{16, 1} !mod "layers.0"
  %h = aten.slice.Tensor(%a, 0, 4, 8, 1) : f32[4, 16]{16, 1} base %a offset 256 !mod "layers.0"
  %r = aten.relu.default(%h) : f32[4, 16]{16, 1} !mod "layers.0"
  %n, %m = aten.var_mean.correction(%a, [1], none, true) : f32[8, 1]{1, 1}, f32[8, 1]{1, 1}
  %t = aten.mm.default(%r, %tied) : f32[4, 16]{16, 1}
  %l = aten.sum.default(%t, none) : f32[]{}
  %g = aten.mul.Tensor(%r, %l) : f32[4, 16]{16, 1} !phase backward
  %rt = aten.t.default(%r) : f32[16, 4]{1, 16} base %r !phase backward
  %gw = aten.mm.default(%rt, %g) : f32[16, 16]{16, 1} !phase backward
  autosp.all_reduce_(%gw, "sum") !phase step
  autosp.sgd_(%w, none, %gw, none, %lr, 0.0) !phase step
  %late = aten.add.Tensor(%n, %m, 1) : f32[8, 1]{1, 1} !phase backward
  %view = aten.slice.Tensor(%a, 0, 0, 4, 1) : f32[4, 16]{16, 1} base %a !phase backward
  %last = aten.mul.Tensor(%view, %r) : f32[4, 16]{16, 1} !phase backward
  output loss %l "loss"
  output gradient %gw "w"
  output parameter_update %w "w"
  output user %late "late"
  output user %last "last"
})";

int ItemOf(const ir::Graph& graph, const Problem& problem, std::string_view value) {
  for (size_t i = 0; i < problem.items.size(); ++i) {
    const ir::Node& node = graph.node(problem.items[i].node);
    for (const ir::ValueId v : node.results) {
      if (graph.value(v).name == value) return static_cast<int>(i);
    }
    if (node.op == value) return static_cast<int>(i);
  }
  ADD_FAILURE() << value;
  return -1;
}

// The parts of a step of micro-batches: without their ends the rest would go up to where the sum is, which frees it, and
// the zeros down.
TEST(Describe, TheEndsOfMicroBatchesAreNotPassed) {
  const auto [graph, problem] = DescribeText(R"(graph @micro {
    input %x : f32[64]{1} user "x"
    %sum = aten.zeros.default([64], none, none, none, none) : f32[64]{1}
    autosp.each_micro_batch_(3)
    %a = aten.exp.default(%x) : f32[64]{1}
    autosp.accumulate_(%sum, %a) !phase backward
    %b = aten.exp.default(%a) : f32[64]{1} !phase backward
    %c = aten.sum.default(%b, none) : f32[]{} !phase backward
    autosp.micro_batches_end_() !phase backward
    %l = aten.sum.default(%sum, none) : f32[]{} !phase backward
    output loss %l "loss"
  })");
  const int begin = ItemOf(graph, problem, "autosp.each_micro_batch_"), end = ItemOf(graph, problem, "autosp.micro_batches_end_");
  const auto stays = [&hazards = problem.hazards](int before, int behind) {
    return std::find(hazards.begin(), hazards.end(), std::pair(before, behind)) != hazards.end();
  };
  EXPECT_TRUE(stays(ItemOf(graph, problem, "sum"), begin));
  for (const char* inside : {"a", "b", "c", "autosp.accumulate_"}) {
    EXPECT_TRUE(stays(begin, ItemOf(graph, problem, inside)) && stays(ItemOf(graph, problem, inside), end)) << inside;
  }
  EXPECT_TRUE(stays(end, ItemOf(graph, problem, "l")));
  for (const auto& [name, times] : {std::pair("sum", 1), {"a", 3}, {"c", 3}, {"l", 1}}) {
    const Item& item = problem.items[ItemOf(graph, problem, name)];
    EXPECT_EQ(item.seconds, times * testing::Cost(graph, graph.node(item.node))) << name;
  }
}

TEST(Describe, ItemsStoresAndWhatMayRunAgain) {
  const auto [graph, problem] = DescribeText(kStep);
  const auto item = [&](std::string_view name) -> const Item& { return problem.items[ItemOf(graph, problem, name)]; };
  EXPECT_EQ(problem.items.size(), 11u) << "views are none";
  EXPECT_EQ(problem.backward, ItemOf(graph, problem, "g"));
  EXPECT_EQ(problem.stores.size(), 10u);
  EXPECT_EQ(item("n").makes.size(), 2u);
  EXPECT_EQ(item("r").reads, item("a").makes) << "through the view";
  EXPECT_TRUE(item("r").in_place.empty()) << "a view of half of it";
  EXPECT_EQ(item("last").reads.size(), 2u);
  EXPECT_EQ(item("a").scratch, 128) << "100 bytes, aligned";
  EXPECT_EQ(item("autosp.all_reduce_").scratch, 256);
  for (const char* name : {"a", "r", "n", "t"}) EXPECT_TRUE(item(name).repeatable) << name;
  EXPECT_FALSE(item("l").repeatable) << "an output";
  for (const char* name : {"g", "gw", "late", "last", "autosp.sgd_"}) EXPECT_FALSE(item(name).repeatable) << name;
  // As a budget counts them, not aligned: 512 and 1024 bytes and the lr's 8; the alias has no bytes of its own.
  EXPECT_EQ(problem.persistent_bytes, 512 + 1024 + 8);
}

TEST(Describe, NothingReadsAnUpdatedParameterAgain) {
  const auto [graph, problem] = DescribeText(kStep);
  const int update = ItemOf(graph, problem, "autosp.sgd_"), end = static_cast<int>(problem.items.size());
  EXPECT_EQ(problem.items[ItemOf(graph, problem, "a")].before, update);
  EXPECT_EQ(problem.items[ItemOf(graph, problem, "t")].before, update) << "through its alias";
  EXPECT_EQ(problem.items[ItemOf(graph, problem, "r")].before, end);
  const auto ordered = [&](std::string_view a, std::string_view b) {
    const std::pair<int, int> pair(ItemOf(graph, problem, a), ItemOf(graph, problem, b));
    return std::count(problem.hazards.begin(), problem.hazards.end(), pair) > 0;
  };
  EXPECT_TRUE(ordered("a", "autosp.sgd_"));
  EXPECT_TRUE(ordered("t", "autosp.sgd_"));
  EXPECT_TRUE(ordered("autosp.all_reduce_", "autosp.sgd_"));
  EXPECT_TRUE(problem.stores[problem.items[ItemOf(graph, problem, "gw")].makes[0]].fixed);
}

TEST(Describe, WithoutACostAnInstructionCostsItsBytes) {
  const ir::Graph graph = testing::ParseText(kStep);
  const Problem problem = Describe(graph, {}, {});
  EXPECT_EQ(problem.items[0].seconds, 512);
  EXPECT_EQ(problem.items[0].scratch, 0);
}

// All that can run again does so before each reader; the updated parameter's readers only before the update, so what
// stands behind it reads the first run.
TEST(Materialise, ViewsResultsAndUpdates) {
  const auto [graph, problem] = DescribeText(kStep);
  const Schedule schedule = Replay(problem, std::vector<bool>(problem.stores.size(), false), 0);
  const std::vector<std::string> faults = testing::Faults(problem, schedule);
  ASSERT_TRUE(faults.empty()) << faults[0];
  const ir::Graph made = Materialise(graph, problem, schedule);
  const std::string text = ir::Print(made);
  for (const std::string& violation : ir::Verify(made)) ADD_FAILURE() << violation << "\n" << text;
  EXPECT_EQ(DigestRun(made).Outputs(), DigestRun(graph).Outputs()) << text;
  EXPECT_TRUE(memory::PlanMemory(made, testing::Traits).ok());
  const auto update = text.find("autosp.sgd_");
  EXPECT_NE(text.find("%a_1 = aten.mm.default(%x, %w)"), std::string::npos) << text;
  EXPECT_EQ(text.find("aten.mm.default(%x, %w)", update), std::string::npos) << "reads the parameter behind its update\n" << text;
  EXPECT_NE(text.find("base %a_1 offset 256"), std::string::npos) << "the view of the repetition\n" << text;
  EXPECT_NE(text.find("%n_1, %m_1 = aten.var_mean.correction"), std::string::npos) << text;
  EXPECT_NE(text.find("!mod \"layers.0\"", text.find("%a_1 =")), std::string::npos) << "a repetition keeps its module";
}

// The digests of the two interpreters' tests see a wrong operand: the tests above can fail.
TEST(Interpreter, SeesFaults) {
  const auto [graph, problem] = DescribeText(kStep);
  ir::Graph wrong = graph;
  wrong.node(problem.items[ItemOf(graph, problem, "last")].node).args[1] = ir::Arg::Value(wrong.FindValue("h"));
  EXPECT_NE(DigestRun(wrong).Outputs(), DigestRun(graph).Outputs());
  ir::Graph late = graph;  // the product reads its parameter behind the update
  late.MoveBefore(problem.items[ItemOf(graph, problem, "autosp.sgd_")].node, late.nodes().front());
  EXPECT_NE(DigestRun(late).Outputs(), DigestRun(graph).Outputs());

  const Schedule good = Replay(problem, std::vector<bool>(problem.stores.size(), false), 0);
  Schedule bad = good;
  std::swap(bad.steps[0], bad.steps[1]);
  EXPECT_FALSE(testing::Faults(problem, bad).empty()) << "an operand that is not made yet";
  bad = good;
  bad.steps.push_back(bad.steps[0]);
  EXPECT_FALSE(testing::Faults(problem, bad).empty()) << "the same copy twice";
  bad = good;
  bad.peak -= 64;
  EXPECT_FALSE(testing::Faults(problem, bad).empty());
  bad = good;
  const auto again = std::find_if(bad.steps.begin(), bad.steps.end(), [](const Step& s) { return s.again; });
  ASSERT_NE(again, bad.steps.end());
  std::rotate(again, again + 1, bad.steps.end());
  EXPECT_FALSE(testing::Faults(problem, bad).empty()) << "a repetition behind its readers";
}

}  // namespace
}  // namespace autospc::recompute
