// Steps of several micro-batches: losses as functions of totals, and gradients summed.
#include "passes/step/micro_batches.h"

#include <algorithm>

#include "tests/step/graphs.h"

namespace autospc {
namespace {

// The canonical graph of a loss that `lines` make of logits %y [6, 5], labels %t [6] and a mask %m [6].
Graph Losing(const std::string& lines, const std::string& more_inputs = "", const std::string& more_outputs = "") {
  return Parse(R"(graph @g {
    input %x : f32[6, 4] user "x"
    input %w : f32[4, 5] parameter "w" grad
    input %t : i64[6] user "labels"
    input %m : f32[6] user "mask"
    )" + more_inputs + R"(
    %y = aten.mm.default(%x, %w) : f32[6, 5]
    %each = aten.cross_entropy_loss.default(%y, %t, none, 0, -100, 0.0) : f32[6]
    )" + lines + R"(
    output loss %l "loss"
    )" + more_outputs + "}");
}

Graph Totalled(Graph graph) {
  PassContext context;
  context.micro_batches = 4;
  const Result<bool> changed = step::TotalLosses(graph, context);
  EXPECT_TRUE(changed.ok() && *changed) << (changed.ok() ? "" : changed.error().Format());
  for (const std::string& violation : ir::Verify(graph)) ADD_FAILURE() << violation << "\n" << ir::Print(graph);
  return graph;
}

TEST(Totals, AMeanCrossEntropyIsASumOverACount) {
  const Graph g = Totalled(Losing("%l = aten.cross_entropy_loss.default(%y, %t, none, 1, -100, 0.0) : f32[]"));
  const Node& loss = *g.producer(OutputValue(g, ir::OutputKind::kLoss, "loss").id);
  ASSERT_EQ(loss.op, "aten.div.Tensor");
  const Node &sum = *g.producer(loss.args[0].value), &count = *g.producer(loss.args[1].value);
  EXPECT_EQ(sum.op, "autosp.total");
  EXPECT_EQ(sum.args[1].number(), 0.125) << "a power of two near one over six tokens";
  EXPECT_EQ(g.producer(sum.args[0].value)->args[3].int_value(), 2) << "a sum";
  EXPECT_EQ(count.op, "autosp.total");
  EXPECT_EQ(g.value(count.results[0]).dtype, ir::DType::kInt64);
}

TEST(Totals, WhatIsDoneToACountIsDoneToTheStepsCount) {
  const Graph g = Totalled(Losing(R"(%ml = aten.mul.Tensor(%each, %m) : f32[6]
    %s = aten.sum.default(%ml, none) : f32[]
    %n = aten.sum.default(%m, none) : f32[]
    %c = aten.clamp.default(%n, 1, none) : f32[]
    %q = aten.div.Tensor(%s, %c) : f32[]
    %l = aten.mul.Tensor(%q, 0.5) : f32[])"));
  const Node& half = *g.producer(OutputValue(g, ir::OutputKind::kLoss, "loss").id);
  ASSERT_EQ(half.op, "aten.mul.Tensor");
  const Node& quotient = *g.producer(half.args[0].value);
  EXPECT_EQ(g.producer(quotient.args[0].value)->op, "autosp.total");
  const Node& clamp = *g.producer(quotient.args[1].value);
  ASSERT_EQ(clamp.op, "aten.clamp.default");
  EXPECT_EQ(g.producer(clamp.args[0].value)->op, "autosp.total") << "clamped once, not in each micro-batch";
}

TEST(Totals, MeansAreTheMeanOfTheMicroBatches) {
  for (const char* lines : {"%l = aten.mean.default(%each, none) : f32[]",
                            "%s = aten.sum.default(%each, none) : f32[]\n%l = aten.div.Tensor(%s, 6) : f32[]",
                            "%a = aten.mean.default(%each, none) : f32[]\n%b = aten.mean.default(%y, none) : f32[]\n"
                            "%l = aten.add.Tensor(%a, %b, 0.1) : f32[]"}) {
    const Graph g = Totalled(Losing(lines));
    ASSERT_EQ(Find(g, "autosp.total").size(), 2u) << lines;
    const Node& loss = *g.producer(OutputValue(g, ir::OutputKind::kLoss, "loss").id);
    ASSERT_EQ(loss.op, "aten.div.Tensor");
    const Node& had = *g.producer(g.producer(loss.args[1].value)->args[0].value);
    EXPECT_EQ(had.op, "aten.full.default") << "as many as there were: an evaluation has one";
  }
}

// A root mean square, a loss that is zero where nothing counts: of the step's sums what they were of the batch's.
TEST(Totals, FunctionsOfNumbersFollow) {
  const Graph root = Totalled(Losing("%a = aten.mean.default(%each, none) : f32[]\n%l = aten.sqrt.default(%a) : f32[]"));
  const Node& sqrt = *root.producer(OutputValue(root, ir::OutputKind::kLoss, "loss").id);
  ASSERT_EQ(sqrt.op, "aten.sqrt.default");
  EXPECT_EQ(root.producer(root.producer(sqrt.args[0].value)->args[0].value)->op, "autosp.total");
  const Graph guarded = Totalled(Losing(R"(%ml = aten.mul.Tensor(%each, %m) : f32[6]
    %s = aten.sum.default(%ml, none) : f32[]
    %n = aten.sum.default(%m, none) : f32[]
    %half = aten.mul.Tensor(%s, 0.5) : f32[]
    %q = aten.div.Tensor(%half, %n) : f32[]
    %any = aten.gt.Scalar(%n, 0) : bool[]
    %l = aten.where.ScalarOther(%any, %q, 0.0) : f32[])"));
  EXPECT_EQ(Find(guarded, "autosp.total").size(), 2u);
  const Node& gt = *Find(guarded, "aten.gt.Scalar")[0];
  EXPECT_EQ(guarded.producer(gt.args[0].value)->op, "autosp.total");
  const Node& half = *Find(guarded, "aten.mul.Tensor")[1];
  EXPECT_EQ(guarded.producer(half.args[0].value)->op, "autosp.total") << "a weight of what is counted, no number of tokens";
}

TEST(Totals, ALoggedSumIsTheStepsSum) {
  const Graph g = Totalled(Losing("%l = aten.mean.default(%each, none) : f32[]\n%n = aten.sum.default(%m, none) : f32[]", "",
                                  "output user %n \"tokens\"\n"));
  EXPECT_EQ(g.producer(OutputValue(g, ir::OutputKind::kUser, "tokens").id)->op, "autosp.total");
}

TEST(Totals, WhatCannotBeSummedIsRefusedByName) {
  const auto says = [](Graph g, const std::string& part) {
    PassContext context;
    context.micro_batches = 4;
    const Result<bool> changed = step::TotalLosses(g, context);
    ASSERT_FALSE(changed.ok()) << part;
    EXPECT_EQ(changed.error().code, Code::kUnsupported);
    EXPECT_NE(changed.error().Format().find(part), std::string::npos) << changed.error().Format();
  };
  const std::string sum = "%s = aten.sum.default(%each, none) : f32[]\n", mean = "%a = aten.mean.default(%each, none) : f32[]\n";
  says(Losing(sum + "%l = aten.neg.default(%s) : f32[]"), "the loss is a sum over tokens");
  says(Losing(mean + sum + R"(%n = aten.sum.default(%m, none) : f32[]
    %q = aten.div.Tensor(%s, %n) : f32[]
    %l = aten.add.Tensor(%q, %a, 1) : f32[])"), "sums over tokens that are not counted alike");
  says(Losing(sum + "%n = aten.sum.default(%y, none) : f32[]\n%l = aten.div.Tensor(%s, %n) : f32[]"), "not counted alike");
  says(Losing(sum + R"(%n = aten.amax.default(%m, [0], false) : f32[]
    %l = aten.div.Tensor(%s, %n) : f32[])"), "aten.amax.default makes a number of one micro-batch that is neither");
  says(Losing("%l = aten.cross_entropy_loss.default(%y, %t, %c, 1, -100, 0.0) : f32[]", "input %c : f32[5] constant \"c\""),
       "aten.cross_entropy_loss.default makes a number");
  says(Losing(R"(%n = aten.sum.default(%m, none) : f32[]
    %share = aten.div.Tensor(%each, %n) : f32[6]
    %l = aten.mean.default(%share, none) : f32[])"), "meets %n, which is made of one micro-batch");
  says(Losing(R"(%z = aten.batch_norm.default(%y, none, none, none, none, true, 0.1, 1e-05, false) : f32[6, 5]
    %l = aten.mean.default(%z, none) : f32[])"), "normalises by the statistics of one micro-batch");
  says(Losing(R"(%z = aten.add.Tensor(%each, %b, 1) : f32[6]
    %next = aten.mul.Tensor(%b, 0.9) : f32[6]
    %l = aten.mean.default(%z, none) : f32[])", "input %b : f32[6] buffer \"b\"", "output buffer_update %next \"b\"\n"),
       "the loss reads the buffer 'b'");
}

// A loss that is a sum (P) over a count, and one gradient, an addend (P) that the ranks add up.
constexpr std::string_view kJoint = R"(graph @g {
  input %x : f32[4]{1} R user "x"
  input %w : f32[4]{1} R parameter "w" grad
  input %b : f32[4]{1} R buffer "b"
  %sp = autosp.shard(%x, 0, 2, true) : f32[2]{1} S(dim=0, valid=4, block=2, outer=1, inner=1)
  %u = aten.sum.default(%sp, none) : f32[]{} P
  %tu = autosp.total(%u, 0.25) : f32[]{} P
  %n = aten.sum.default(%x, none) : f32[]{} R
  %tn = autosp.total(%n, 1.0) : f32[]{} R
  %vn = autosp.vary(%tn) : f32[]{} V base %tn
  %q = aten.div.Tensor(%tu, %vn) : f32[]{} P
  %l = autosp.all_reduce(%q, "sum") : f32[]{} R
  %next = aten.mul.Tensor(%b, 0.5) : f32[4]{1} R
  %one = aten.ones_like.default(%l, none, none, none, none, none) : f32[]{} !phase backward
  %v1 = autosp.vary(%one) : f32[]{} base %one !phase backward
  %g = aten.div.Tensor(%v1, %vn) : f32[]{} !phase backward
  %seed = autosp.total_backward(%g, 0.25) : f32[]{} !phase backward
  %z = aten.new_zeros.default(%sp, [4], none, none, none, none) : f32[4]{1} P !phase backward
  %p = aten.mul.Tensor(%z, %seed) : f32[4]{1} P !phase backward !src "m.py:7"
  %gw = autosp.all_reduce(%p, "sum") : f32[4]{1} R !phase backward
  output loss %l "loss"
  output gradient %gw "w"
  output buffer_update %next "b"
})";

TEST(Accumulation, SumsStandBetweenTheMicroBatchesAndTheStep) {
  Graph g = Parse(kJoint);
  PassContext context;
  context.micro_batches = 3;
  context.ranks = 2;
  context.optimizer = "sgd";
  ASSERT_TRUE(RunPass(step::AccumulateGradients, g, context));
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  ASSERT_TRUE(RunPass(step::AddOptimizer, g, context));
  ASSERT_TRUE(RunPass(step::WriteBuffers, g, context));
  EXPECT_TRUE(Find(g, "autosp.total").empty() && Find(g, "autosp.total_backward").empty());
  const Node& each = *Find(g, "autosp.each_micro_batch_")[0];
  EXPECT_EQ(each.args[0].int_value(), 3);
  const int begin = Position(g, each), end = Position(g, *Find(g, "autosp.micro_batches_end_")[0]);
  ASSERT_EQ(Find(g, "aten.zeros.default").size(), 3u);
  for (const Node* zeros : Find(g, "aten.zeros.default")) EXPECT_LT(Position(g, *zeros), begin);
  ASSERT_EQ(Find(g, "autosp.accumulate_").size(), 3u);
  for (const char* op : {"autosp.accumulate_", "aten.full.default", "aten.copy_.default"}) {
    for (const Node* node : Find(g, op)) {
      EXPECT_GT(Position(g, *node), begin) << op;
      EXPECT_LT(Position(g, *node), end) << op;
    }
  }
  for (const char* op : {"aten.div.Tensor", "autosp.all_reduce", "autosp.all_reduce_", "autosp.grad_norm", "autosp.sgd_"}) {
    EXPECT_FALSE(Find(g, op).empty()) << op;
    for (const Node* node : Find(g, op)) EXPECT_GT(Position(g, *node), end) << op << ": once a step";
  }
  EXPECT_EQ(Find(g, "aten.full.default")[0]->args[1].number(), 0.25);
  const Node& taken = *Find(g, "autosp.accumulate_")[2];
  EXPECT_EQ(taken.args[1].value, g.FindValue("p"));
  EXPECT_EQ(taken.source, "m.py:7");
  // The sum times g / seed is what the ranks add up.
  const Node& scaled = *g.producer(Find(g, "autosp.all_reduce_")[0]->args[0].value);
  EXPECT_EQ(scaled.args[0].value, taken.args[0].value);
  const Node& scale = *g.producer(scaled.args[1].value);
  EXPECT_EQ(scale.args[0].value, g.FindValue("g"));
  EXPECT_EQ(scale.args[1].number(), 4);
}

TEST(Accumulation, SixteenBitGradientsAreSummedInFloat32) {
  std::string text(kJoint);
  for (const char* name : {"%w : ", "%z = aten.new_zeros.default(%sp, [4], none, none, none, none) : ", "%p = aten.mul.Tensor(%z, %seed) : ",
                           "%gw = autosp.all_reduce(%p, \"sum\") : "}) {
    text.replace(text.find(name) + std::string(name).size(), 3, "bf16");
  }
  Graph g = Parse(text);
  PassContext context;
  context.micro_batches = 3;
  ASSERT_TRUE(RunPass(step::AccumulateGradients, g, context));
  EXPECT_EQ(OutputValue(g, ir::OutputKind::kGradient, "w").dtype, ir::DType::kFloat32);
  EXPECT_EQ(g.value(Find(g, "autosp.accumulate_")[2]->args[0].value).dtype, ir::DType::kFloat32);
}

TEST(Accumulation, OfOneMicroBatchNothingChanges) {
  Graph g = Parse(kJoint);
  PassContext context;
  EXPECT_FALSE(*step::AccumulateGradients(g, context));
  EXPECT_FALSE(*step::TotalLosses(g, context));
}

}  // namespace
}  // namespace autospc
