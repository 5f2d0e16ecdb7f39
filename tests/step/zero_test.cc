// ZeRO in the step's passes: which blocks are made, updated and gathered where, and who asks for what.
#include "passes/step/zero.h"

#include <algorithm>

#include "tests/step/graphs.h"

namespace autospc {
namespace {

using ir::Graph;
using ir::Node;
using ir::Placement;
using ir::ValueId;

PassContext Context(int zero, const std::string& optimizer = "adamw", double clip = 0) {
  PassContext context;
  context.ranks = 3;
  context.zero = zero;
  context.optimizer = optimizer;
  context.clip_norm = clip;
  return context;
}

void RunStep(Graph& graph, PassContext& context) {
  RunPass(step::BucketGradients, graph, context);
  ASSERT_TRUE(RunPass(step::AddOptimizer, graph, context));
}

const ir::Value& State(const Graph& graph, std::string_view name) {
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.kind == ir::InputKind::kState && in.name == name) return graph.value(in.value);
  }
  ADD_FAILURE() << "no state " << name;
  return graph.value(0);
}

TEST(Zero, StageOfTheOptions) {
  EXPECT_EQ(step::ZeroStage(Context(2)), 2);
  EXPECT_EQ(step::ZeroStage(Context(1, "sgd")), 1);
  EXPECT_EQ(step::ZeroStage(Context(-1)), 0) << "the driver tries each";
  EXPECT_EQ(step::ZeroStage(Context(2, "none")), 0) << "nothing to shard";
  PassContext one = Context(2);
  one.ranks = 1;
  EXPECT_EQ(step::ZeroStage(one), 0);
}

TEST(Zero, StageOneCutsWholeGradientsAndShardsStates) {
  Graph g = Parse(kThree);
  PassContext context = Context(1);
  RunStep(g, context);
  EXPECT_EQ(Find(g, "autosp.all_reduce_coalesced_").size(), 1u) << "gradients are reduced as without ZeRO";
  EXPECT_EQ(Find(g, "autosp.own_block").size(), 3u);
  const ir::Value& m = State(g, "b.exp_avg");
  EXPECT_EQ(m.int_sizes(), std::vector<int64_t>{2}) << "4 elements over 3 ranks";
  EXPECT_EQ(m.placement, Placement::Sharded(0, 4, 2));
  EXPECT_EQ(OutputValue(g, ir::OutputKind::kGradient, "b").int_sizes(), (std::vector<int64_t>{2, 2}))
      << "whole for who asks";
  ASSERT_EQ(Find(g, "autosp.adamw_shard_").size(), 3u);
  ASSERT_EQ(Find(g, "autosp.all_gather_coalesced_").size(), 1u);
  EXPECT_EQ(Find(g, "autosp.all_gather_coalesced_")[0]->args[0].values.size(), 3u);
}

TEST(Zero, StageTwoScattersGradientsAndKeepsBlocks) {
  Graph g = Parse(kThree);
  PassContext context = Context(2);
  RunStep(g, context);
  EXPECT_TRUE(Find(g, "autosp.all_reduce_coalesced_").empty());
  ASSERT_EQ(Find(g, "autosp.reduce_scatter_coalesced").size(), 1u);
  const Node& scatter = *Find(g, "autosp.reduce_scatter_coalesced")[0];
  EXPECT_EQ(scatter.args[0].values, (std::vector<ValueId>{g.FindValue("pc"), g.FindValue("tb"), g.FindValue("pa")}));
  const ir::Value& b = OutputValue(g, ir::OutputKind::kGradient, "b");
  EXPECT_EQ(b.id, scatter.results[1]);
  EXPECT_EQ(b.placement, Placement::Sharded(0, 4, 2));
  EXPECT_TRUE(Find(g, "autosp.own_block").empty());
  // The only other reduction is of the squares' sum, one float64 number.
  ASSERT_EQ(Find(g, "autosp.all_reduce").size(), 1u);
  EXPECT_EQ(g.value(Find(g, "autosp.all_reduce")[0]->args[0].value).placement, Placement::Partial());
  EXPECT_EQ(g.value(Find(g, "autosp.all_reduce")[0]->args[0].value).dtype, ir::DType::kFloat64);
  EXPECT_EQ(g.producer(OutputValue(g, ir::OutputKind::kUser, "grad_norm").id)->op, "autosp.grad_norm");
}

TEST(Zero, EachBucketIsUpdatedAndGatheredBehindItsScatter) {
  Graph g = Parse(kThree);
  PassContext context = Context(2);
  context.bucket_bytes = 16;
  RunStep(g, context);
  const auto scatters = Find(g, "autosp.reduce_scatter_coalesced");
  const auto updates = Find(g, "autosp.adamw_shard_");
  const auto gathers = Find(g, "autosp.all_gather_coalesced_");
  ASSERT_EQ(scatters.size(), 3u);
  ASSERT_EQ(updates.size(), 3u);
  ASSERT_EQ(gathers.size(), 3u);
  for (int i = 0; i < 3; ++i) {
    EXPECT_LT(Position(g, *scatters[i]), Position(g, *updates[i]));
    EXPECT_LT(Position(g, *updates[i]), Position(g, *gathers[i]));
    EXPECT_EQ(updates[i]->args[0].value, gathers[i]->args[0].values[0]);
    if (i < 2) EXPECT_LT(Position(g, *gathers[i]), Position(g, *scatters[i + 1]));
  }
}

TEST(Zero, ClippingWaitsForTheNormOverRanks) {
  Graph g = Parse(kThree);
  PassContext context = Context(2, "sgd", 0.5);
  RunStep(g, context);
  const std::vector<std::string> ops = Ops(g);
  EXPECT_EQ(std::vector<std::string>(ops.end() - 8, ops.end()),
            (std::vector<std::string>{"autosp.all_reduce", "aten.sqrt.default", "autosp.grad_norm",
                                      "autosp.clip_coefficient", "autosp.sgd_shard_", "autosp.sgd_shard_",
                                      "autosp.sgd_shard_", "autosp.all_gather_coalesced_"}));
  EXPECT_EQ(Find(g, "autosp.sum_of_squares").size(), 1u);
}

// A gradient that no rank has to add anything to, one of a view, a transposed one, and a parameter of 16 bits.
constexpr std::string_view kKinds = R"(graph @g {
  input %a : f32[5]{1} R parameter "a" grad
  input %b : f32[2, 3]{3, 1} R parameter "b" grad
  input %c : f32[3, 2]{2, 1} R parameter "c" grad
  input %d : bf16[1]{1} R parameter "d" grad
  %l = aten.sum.default(%a, none) : f32[]{} R
  %ga = aten.ones_like.default(%a, none, none, none, none, none) : f32[5]{1} R !phase backward
  %pb = aten.new_zeros.default(%a, [6], none, none, none, none) : f32[6]{1} P !phase backward
  %rb = autosp.all_reduce(%pb, "sum") : f32[6]{1} R !phase backward
  %gb = aten.view.default(%rb, [2, 3]) : f32[2, 3]{3, 1} R base %rb !phase backward
  %pc = aten.new_zeros.default(%a, [2, 3], none, none, none, none) : f32[2, 3]{3, 1} P !phase backward
  %rc = autosp.all_reduce(%pc, "sum") : f32[2, 3]{3, 1} R !phase backward
  %gc = aten.t.default(%rc) : f32[3, 2]{1, 3} R base %rc !phase backward
  %pd = aten.zeros_like.default(%d, none, none, none, none, none) : bf16[1]{1} P !phase backward
  %gd = autosp.all_reduce(%pd, "sum") : bf16[1]{1} R !phase backward
  output loss %l "loss"
  output gradient %ga "a"
  output gradient %gb "b"
  output gradient %gc "c"
  output gradient %gd "d"
})";

TEST(Zero, StageTwoScattersOnlyWhatABlockCanBeCutFrom) {
  Graph g = Parse(kKinds);
  PassContext context = Context(2);
  RunStep(g, context);
  const auto scatters = Find(g, "autosp.reduce_scatter_coalesced");
  std::vector<ValueId> scattered;
  for (const Node* n : scatters) scattered.insert(scattered.end(), n->args[0].values.begin(), n->args[0].values.end());
  std::sort(scattered.begin(), scattered.end());
  EXPECT_EQ(scattered, (std::vector<ValueId>{g.FindValue("pb"), g.FindValue("pd")}))
      << "a transposed view has other blocks";
  EXPECT_EQ(scatters.size(), 2u) << "a type each";
  EXPECT_EQ(Find(g, "autosp.own_block").size(), 2u) << "of a and c";
  EXPECT_EQ(Find(g, "autosp.all_reduce_").size(), 1u);
  EXPECT_EQ(OutputValue(g, ir::OutputKind::kGradient, "c").int_sizes(), (std::vector<int64_t>{3, 2}));
  EXPECT_EQ(g.FindValue("gb"), ir::kNoValue) << "the view of the whole is gone";
  const ir::Value& master = State(g, "d.master");
  EXPECT_EQ(master.dtype, ir::DType::kFloat32);
  EXPECT_EQ(master.placement, Placement::Sharded(0, 1, 1)) << "one element, the first rank's";
  size_t blocks = 0;
  for (const Node* n : Find(g, "autosp.sum_of_squares")) blocks += n->args[0].values.size();
  EXPECT_EQ(blocks, 4u) << "each parameter once";
}

TEST(Zero, ABlockAndAWholeOfTiedNamesAddUpToABlock) {
  Graph g = Parse(R"(graph @g {
    input %w : f32[4]{1} R parameter "head" grad
    input %e : f32[4]{1} R parameter "embed" grad alias "head"
    %l = aten.sum.default(%w, none) : f32[]{} R
    %gw = aten.ones_like.default(%w, none, none, none, none, none) : f32[4]{1} R !phase backward
    %pe = aten.zeros_like.default(%e, none, none, none, none, none) : f32[4]{1} P !phase backward
    %ge = autosp.all_reduce(%pe, "sum") : f32[4]{1} R !phase backward
    output loss %l "loss"
    output gradient %gw "head"
    output gradient %ge "embed"
  })");
  PassContext context = Context(2);
  RunStep(g, context);
  ASSERT_EQ(Find(g, "autosp.adamw_shard_").size(), 1u);
  const ValueId sum = Find(g, "autosp.adamw_shard_")[0]->args[2].value;
  EXPECT_EQ(g.producer(sum)->op, "aten.add.Tensor");
  EXPECT_EQ(g.value(sum).placement, Placement::Sharded(0, 4, 2));
  EXPECT_EQ(OutputValue(g, ir::OutputKind::kGradient, "head").id, sum);
  EXPECT_EQ(OutputValue(g, ir::OutputKind::kGradient, "embed").id, sum);
  EXPECT_EQ(Find(g, "autosp.all_gather_coalesced_")[0]->args[0].values, std::vector<ValueId>{g.FindValue("w")});
}

TEST(Zero, StageZeroIsAsItWas) {
  Graph plain = Parse(kThree), auto_stage = Parse(kThree);
  PassContext a = Context(0), b = Context(-1);
  RunStep(plain, a);
  RunStep(auto_stage, b);
  EXPECT_EQ(ir::Print(plain), ir::Print(auto_stage));
  EXPECT_EQ(Find(plain, "autosp.adamw_").size(), 3u);
  EXPECT_EQ(State(plain, "b.exp_avg").int_sizes(), (std::vector<int64_t>{2, 2}));
}

}  // namespace
}  // namespace autospc
