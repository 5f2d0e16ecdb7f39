// Factor rules by op family, and how reshapes carry a sharded factor.
#include "passes/partition/rules.h"

#include <gtest/gtest.h>

#include "passes/ir/parser.h"

namespace autospc::partition {
namespace {

using ir::Placement;
using Dims = std::vector<int>;
constexpr int kW = FactorRule::kWhole;

// The rule of the last node of a graph's text.
std::optional<FactorRule> RuleIn(const std::string& body) {
  auto graph = ir::Parse("graph @g {\n" + body + "}\n", "test.ir");
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.error().Format());
  return RuleOf(*graph, graph->node(graph->nodes().back()));
}

TEST(Rules, PointwiseAlignsRightAndLeavesBroadcastDimsOut) {
  const auto rule = RuleIn(R"(  input %x : f32[2, 8, 4] user "x"
  input %y : f32[8, 1] user "y"
  %z = aten.add.Tensor(%x, %y, 1) : f32[2, 8, 4]
)");
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->operands, (std::vector<Dims>{{0, 1, 2}, {1, kW}}));
  EXPECT_EQ(rule->results, (std::vector<Dims>{{0, 1, 2}}));
}

TEST(Rules, MatmulContractsItsInnerFactor) {
  const auto rule = RuleIn(R"(  input %x : f32[2, 3, 8, 4] user "x"
  input %y : f32[4, 5] user "y"
  %z = aten.matmul.default(%x, %y) : f32[2, 3, 8, 5]
)");
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->operands, (std::vector<Dims>{{0, 1, 2, 4}, {4, 3}}));
  EXPECT_EQ(rule->combiner, Combiner::kSum);
  EXPECT_FALSE(rule->InResults(4));
}

TEST(Rules, ALinearWithABiasIsNoSumOverRanks) {
  const char* inputs = R"(  input %x : f32[8, 4] user "x"
  input %w : f32[5, 4] parameter "w"
  input %b : f32[5] parameter "b"
)";
  const auto with = RuleIn(std::string(inputs) + "  %z = aten.linear.default(%x, %w, %b) : f32[8, 5]\n");
  const auto without = RuleIn(std::string(inputs) + "  %z = aten.linear.default(%x, %w, none) : f32[8, 5]\n");
  ASSERT_TRUE(with && without);
  EXPECT_EQ(with->combiner, Combiner::kNone);
  EXPECT_EQ(without->combiner, Combiner::kSum);
}

TEST(Rules, EinsumReadsItsEquation) {
  const auto rule = RuleIn(R"(  input %x : f32[2, 8] user "x"
  input %y : f32[2, 8, 4] user "y"
  %z = aten.einsum.default("bs,bsh->bh", [%x, %y], none) : f32[2, 4]
)");
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->operands, (std::vector<Dims>{{'b', 's'}, {'b', 's', 'h'}}));
  EXPECT_FALSE(rule->InResults('s'));
}

TEST(Rules, SoftmaxNeedsItsDimWhole) {
  const auto rule = RuleIn(R"(  input %x : f32[2, 8, 4] user "x"
  %z = aten.softmax.int(%x, -1, none) : f32[2, 8, 4]
)");
  ASSERT_TRUE(rule);
  EXPECT_EQ(rule->operands[0], (Dims{0, 1, kW}));
}

TEST(Rules, NoRuleForAnOpThatNobodyDescribed) {
  EXPECT_FALSE(RuleIn(R"(  input %x : f32[2, 8] user "x"
  %z = aten.histc.default(%x, 4, 0, 1) : f32[4]
)"));
}

TEST(MapReshape, FlattensAndUnflattens) {
  const Placement s = Placement::Sharded(1, 61, 31);
  const auto flat = MapReshape(s, {2, 61, 4}, {122, 4});
  ASSERT_TRUE(flat);
  EXPECT_EQ(*flat, Placement::Sharded(0, 61, 31, 2, 1));
  EXPECT_EQ(MapReshape(*flat, {122, 4}, {2, 61, 4}), s);
  EXPECT_EQ(MapReshape(s, {2, 61, 8}, {2, 61, 4, 2}), s);
  EXPECT_EQ(MapReshape(s, {2, 61, 4}, {2, 244}), Placement::Sharded(1, 61, 31, 1, 4));
}

TEST(MapReshape, TellsTheSequenceFromAnotherDimOfItsSize) {
  // 64 is both the sequence and the hidden size.
  EXPECT_EQ(MapReshape(Placement::Sharded(1, 64, 32), {2, 64, 64}, {128, 64}), Placement::Sharded(0, 64, 32, 2, 1));
  EXPECT_EQ(MapReshape(Placement::Sharded(1, 64, 32), {2, 64, 64}, {2, 64, 4, 16}), Placement::Sharded(1, 64, 32));
}

TEST(MapReshape, RefusesToSplitTheFactor) {
  EXPECT_FALSE(MapReshape(Placement::Sharded(1, 64, 32), {2, 64, 4}, {2, 32, 2, 4}));
}

}  // namespace
}  // namespace autospc::partition
