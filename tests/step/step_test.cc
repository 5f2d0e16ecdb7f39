// The step's passes on small joint graphs in text form.
#include <algorithm>
#include <map>

#include "tests/step/graphs.h"

namespace autospc {
namespace {

using ir::Graph;
using ir::Node;
using ir::ValueId;

TEST(Bucket, GradientsAreReducedTogetherWhereTheyLie) {
  Graph g = Parse(kThree);
  PassContext context;
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  EXPECT_EQ(context.chosen_bucket_bytes, 1 << 20) << "an eighth of them would be short messages";
  EXPECT_TRUE(Find(g, "autosp.all_reduce").empty());
  EXPECT_TRUE(Find(g, "aten.clone.default").empty()) << "a bucket takes no bytes beside the gradients";
  ASSERT_EQ(Find(g, "autosp.all_reduce_coalesced_").size(), 1u);
  const Node& reduce = *Find(g, "autosp.all_reduce_coalesced_")[0];
  EXPECT_EQ(reduce.args[0].values, (std::vector<ValueId>{g.FindValue("pc"), g.FindValue("pb"), g.FindValue("pa")}))
      << "in order of birth; the storage, not its transposed view";
  EXPECT_EQ(reduce.phase, ir::Phase::kBackward);
  const ir::Value& b = OutputValue(g, ir::OutputKind::kGradient, "b");
  EXPECT_EQ(b.base, g.FindValue("pb"));
  EXPECT_EQ(b.int_strides(), (std::vector<int64_t>{1, 2}));
  EXPECT_GT(Position(g, *g.producer(b.id)), Position(g, reduce));
  const ir::Value& c = OutputValue(g, ir::OutputKind::kGradient, "c");
  EXPECT_EQ(c.base, g.FindValue("pc"));
  EXPECT_EQ(g.producer(c.id)->source, "m.py:3");
}

TEST(Bucket, BytesByTheModelsSize) {
  Graph g = Parse(R"(graph @g {
    input %a : f32[8388608]{1} R parameter "a" grad
    input %b : f32[64]{1} R parameter "b" grad
    %l = aten.sum.default(%b, none) : f32[]{} R
    %pa = aten.zeros_like.default(%a, none, none, none, none, none) : f32[8388608]{1} P !phase backward
    %ga = autosp.all_reduce(%pa, "sum") : f32[8388608]{1} R !phase backward
    %pb = aten.zeros_like.default(%b, none, none, none, none, none) : f32[64]{1} P !phase backward
    %gb = autosp.all_reduce(%pb, "sum") : f32[64]{1} R !phase backward
    output loss %l "loss"
    output gradient %ga "a"
    output gradient %gb "b"
  })");
  PassContext context;
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  EXPECT_EQ(context.chosen_bucket_bytes, (8388608 + 64) * 4 / 8);
}

TEST(Bucket, ClosesWhenFullAndReducesALoneGradientWhereItLies) {
  Graph g = Parse(kThree);
  PassContext context;
  context.bucket_bytes = 16;  // each gradient fills one
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  const auto reductions = Find(g, "autosp.all_reduce_");
  ASSERT_EQ(reductions.size(), 3u);
  EXPECT_EQ(reductions[0]->args[0].value, g.FindValue("pc"));
  EXPECT_EQ(reductions[1]->args[0].value, g.FindValue("pb")) << "the storage, not its transposed view";
  const ir::Value& b = OutputValue(g, ir::OutputKind::kGradient, "b");
  EXPECT_EQ(b.base, g.FindValue("pb"));
  EXPECT_EQ(b.int_strides(), (std::vector<int64_t>{1, 2}));
  EXPECT_LT(Position(g, *reductions[0]), Position(g, *g.producer(g.FindValue("pb")))) << "reduced at once";
}

TEST(Bucket, TwoInABucketOfTwo) {
  Graph g = Parse(kThree);
  PassContext context;
  context.bucket_bytes = 40;  // the third would not fit
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  ASSERT_EQ(Find(g, "autosp.all_reduce_coalesced_").size(), 1u);
  EXPECT_EQ(Find(g, "autosp.all_reduce_coalesced_")[0]->args[0].values.size(), 2u);
  EXPECT_EQ(Find(g, "autosp.all_reduce_").size(), 1u);
}

TEST(Bucket, ALargeGradientDoesNotCloseTheSmallOnesBucket) {
  Graph g = Parse(R"(graph @g {
    input %a : f32[4]{1} R parameter "a" grad
    input %b : f32[64]{1} R parameter "b" grad
    input %c : f32[4]{1} R parameter "c" grad
    %l = aten.sum.default(%a, none) : f32[]{} R
    %pa = aten.zeros_like.default(%a, none, none, none, none, none) : f32[4]{1} P !phase backward
    %ga = autosp.all_reduce(%pa, "sum") : f32[4]{1} R !phase backward
    %pb = aten.zeros_like.default(%b, none, none, none, none, none) : f32[64]{1} P !phase backward
    %gb = autosp.all_reduce(%pb, "sum") : f32[64]{1} R !phase backward
    %pc = aten.zeros_like.default(%c, none, none, none, none, none) : f32[4]{1} P !phase backward
    %gc = autosp.all_reduce(%pc, "sum") : f32[4]{1} R !phase backward
    output loss %l "loss"
    output gradient %ga "a"
    output gradient %gb "b"
    output gradient %gc "c"
  })");
  PassContext context;
  context.bucket_bytes = 128;
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  ASSERT_EQ(Find(g, "autosp.all_reduce_coalesced_").size(), 1u);
  EXPECT_EQ(Find(g, "autosp.all_reduce_coalesced_")[0]->args[0].values,
            (std::vector<ValueId>{g.FindValue("pa"), g.FindValue("pc")}));
  ASSERT_EQ(Find(g, "autosp.all_reduce_").size(), 1u);
  EXPECT_EQ(Find(g, "autosp.all_reduce_")[0]->args[0].value, g.FindValue("pb"));
}

TEST(Bucket, NeverDelaysWhatIsUsedNorMixesTypes) {
  Graph g = Parse(R"(graph @g {
    input %a : f32[4]{1} R parameter "a" grad
    input %b : bf16[4]{1} R parameter "b" grad
    input %c : f32[4]{1} R parameter "c" grad
    %l = aten.sum.default(%a, none) : f32[]{} R
    %pa = aten.zeros_like.default(%a, none, none, none, none, none) : f32[4]{1} P !phase backward
    %ra = autosp.all_reduce(%pa, "sum") : f32[4]{1} R !phase backward
    %ga = aten.add.Tensor(%ra, %a, 1) : f32[4]{1} R !phase backward
    %pb = aten.zeros_like.default(%b, none, none, none, none, none) : bf16[4]{1} P !phase backward
    %gb = autosp.all_reduce(%pb, "sum") : bf16[4]{1} R !phase backward
    %pc = aten.zeros_like.default(%c, none, none, none, none, none) : f32[4]{1} P !phase backward
    %gc = autosp.all_reduce(%pc, "max") : f32[4]{1} R !phase backward
    output loss %l "loss"
    output gradient %ga "a"
    output gradient %gb "b"
    output gradient %gc "c"
  })");
  PassContext context;
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  ASSERT_EQ(Find(g, "autosp.all_reduce").size(), 2u) << "one is added to, one is a maximum";
  EXPECT_EQ(Find(g, "autosp.all_reduce")[0]->results[0], g.FindValue("ra"));
  ASSERT_EQ(Find(g, "autosp.all_reduce_").size(), 1u);
  EXPECT_EQ(Find(g, "autosp.all_reduce_")[0]->args[0].value, g.FindValue("pb"));
}

TEST(Bucket, NotInPlaceWhereTheAddendIsReadElsewhere) {
  Graph g = Parse(R"(graph @g {
    input %a : f32[4]{1} R parameter "a" grad
    input %b : f32[4]{1} R parameter "b" grad
    %l = aten.sum.default(%a, none) : f32[]{} R
    %p = aten.zeros_like.default(%a, none, none, none, none, none) : f32[4]{1} P !phase backward
    %ga = autosp.all_reduce(%p, "sum") : f32[4]{1} R !phase backward
    %gb = autosp.all_reduce(%p, "sum") : f32[4]{1} R !phase backward
    output loss %l "loss"
    output gradient %ga "a"
    output gradient %gb "b"
  })");
  PassContext context;
  context.bucket_bytes = 16;
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  EXPECT_EQ(Find(g, "aten.clone.default").size(), 2u) << "the second would reduce what is reduced already";
}

TEST(Bucket, ViewsOfAReducedGradientMoveBehindTheirBucket) {
  Graph g = Parse(R"(graph @g {
    input %a : f32[4]{1} R parameter "a" grad
    input %b : f32[2, 3]{3, 1} R parameter "b" grad
    %l = aten.sum.default(%a, none) : f32[]{} R
    %pa = aten.zeros_like.default(%a, none, none, none, none, none) : f32[4]{1} P !phase backward
    %ga = autosp.all_reduce(%pa, "sum") : f32[4]{1} R !phase backward
    %pb = aten.new_zeros.default(%a, [6], none, none, none, none) : f32[6]{1} P !phase backward
    %rb = autosp.all_reduce(%pb, "sum") : f32[6]{1} R !phase backward
    %gb = aten.view.default(%rb, [2, 3]) : f32[2, 3]{3, 1} R base %rb !phase backward
    %z = aten.zeros_like.default(%a, none, none, none, none, none) : f32[4]{1} R !phase backward
    output loss %l "loss"
    output gradient %ga "a"
    output gradient %gb "b"
    output user %z "z"
  })");
  PassContext context;
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  const ir::Value& b = OutputValue(g, ir::OutputKind::kGradient, "b");
  EXPECT_EQ(b.base, g.FindValue("pb"));
  EXPECT_GT(Position(g, *g.producer(b.id)), Position(g, *Find(g, "autosp.all_reduce_coalesced_")[0]));
}

TEST(Bucket, NothingToDoOnOneRank) {
  Graph g = Parse(R"(graph @g {
    input %a : f32[4]{1} parameter "a" grad
    %l = aten.sum.default(%a, none) : f32[]{}
    %ga = aten.ones_like.default(%a, none, none, none, none, none) : f32[4]{1} !phase backward
    output loss %l "loss"
    output gradient %ga "a"
  })");
  PassContext context;
  EXPECT_FALSE(RunPass(step::BucketGradients, g, context));
}

// A chain: the gradient of w2 is born first, and w1 is read last in the backward pass.
constexpr std::string_view kChain = R"(graph @g {
  input %x : f32[4, 4]{4, 1} user "x"
  input %w1 : f32[4, 4]{4, 1} parameter "w1" grad
  input %w2 : bf16[4, 4]{4, 1} parameter "w2" grad
  input %w3 : f32[4, 4]{4, 1} parameter "w3"
  %y = aten.mm.default(%x, %w1) : f32[4, 4]{4, 1}
  %l = aten.sum.default(%y, none) : f32[]{}
  %g2 = aten._to_copy.default(%y, dtype(bf16), none, none, none, false, none) : bf16[4, 4]{4, 1} !phase backward
  %g1 = aten.mm.default(%y, %x) : f32[4, 4]{4, 1} !phase backward
  %v1 = aten.t.default(%w1) : f32[4, 4]{1, 4} base %w1 !phase backward
  %gx = aten.mm.default(%y, %v1) : f32[4, 4]{4, 1} !phase backward
  output loss %l "loss"
  output gradient %g1 "w1"
  output gradient %g2 "w2"
  output user %gx "gx"
})";

TEST(Optimizer, NoneStillGivesTheNorm) {
  Graph g = Parse(kChain);
  PassContext context;
  ASSERT_TRUE(RunPass(step::AddOptimizer, g, context));
  const ir::Value& norm = OutputValue(g, ir::OutputKind::kUser, "grad_norm");
  EXPECT_EQ(norm.dtype, ir::DType::kFloat64);
  EXPECT_EQ(g.producer(norm.id)->op, "autosp.grad_norm");
  EXPECT_EQ(g.inputs.size(), 4u);
  EXPECT_TRUE(Find(g, "autosp.adamw_").empty());
  // The norm of norms; the first part stands right behind its gradient.
  ASSERT_EQ(Find(g, "autosp.grad_norm").size(), 3u);
  EXPECT_EQ(Position(g, *Find(g, "autosp.grad_norm")[0]), Position(g, *g.producer(g.FindValue("g2"))) + 1);
}

TEST(Optimizer, AdamWUpdatesAsSoonAsTheParameterIsFree) {
  Graph g = Parse(kChain);
  PassContext context;
  context.optimizer = "adamw";
  ASSERT_TRUE(RunPass(step::AddOptimizer, g, context));
  const auto updates = Find(g, "autosp.adamw_");
  ASSERT_EQ(updates.size(), 2u) << "w3 has no gradient";
  const Node& second = updates[0]->module == "w2" ? *updates[0] : *updates[1];
  const Node& first = updates[0]->module == "w2" ? *updates[1] : *updates[0];
  EXPECT_LT(Position(g, second), Position(g, *g.producer(g.FindValue("g1"))));
  EXPECT_GT(Position(g, first), Position(g, *g.producer(g.FindValue("gx")))) << "w1 is read through its view";
  EXPECT_EQ(first.args[0].value, g.FindValue("w1"));
  EXPECT_TRUE(first.args[1].is_none());
  EXPECT_EQ(first.args[2].value, g.FindValue("g1"));
  EXPECT_TRUE(first.args[5].is_none()) << "no clipping";
  EXPECT_EQ(first.args[8].number(), 0.9);
  EXPECT_EQ(first.args[9].number(), 0.999);
  EXPECT_EQ(first.args[10].number(), 1e-8);
  EXPECT_EQ(first.args[11].number(), 0.01);
  EXPECT_EQ(g.value(second.args[1].value).dtype, ir::DType::kFloat32) << "a master of 32 bits";
  EXPECT_EQ(g.value(second.args[3].value).dtype, ir::DType::kFloat32);
  std::vector<std::string> states;
  for (const ir::GraphInput& in : g.inputs) {
    if (in.kind == ir::InputKind::kState) states.push_back(in.name);
  }
  std::sort(states.begin(), states.end());
  EXPECT_EQ(states, (std::vector<std::string>{"lr", "step", "w1.exp_avg", "w1.exp_avg_sq", "w2.exp_avg", "w2.exp_avg_sq", "w2.master"}));
}

TEST(Optimizer, ClippingWaitsForTheNorm) {
  Graph g = Parse(kChain);
  PassContext context;
  context.optimizer = "sgd";
  context.clip_norm = 0.5;
  context.weight_decay = 0.25;
  ASSERT_TRUE(RunPass(step::AddOptimizer, g, context));
  const std::vector<std::string> ops = Ops(g);
  EXPECT_EQ(std::vector<std::string>(ops.end() - 4, ops.end()),
            (std::vector<std::string>{"autosp.grad_norm", "autosp.clip_coefficient", "autosp.sgd_", "autosp.sgd_"}));
  const Node& norm = *Find(g, "autosp.grad_norm")[0];
  EXPECT_EQ(norm.args[0].values.size(), 2u);
  const Node& clip = *Find(g, "autosp.clip_coefficient")[0];
  EXPECT_EQ(clip.args[1].number(), 0.5);
  const Node& update = *Find(g, "autosp.sgd_")[0];
  EXPECT_EQ(update.args[3].value, clip.results[0]);
  EXPECT_EQ(update.args[5].number(), 0.25);
  EXPECT_EQ(g.FindValue("step"), ir::kNoValue) << "SGD counts no steps";
}

TEST(Optimizer, NoDecayIsOfTheParametersThatAPatternFinds) {
  const auto decays = [](std::vector<std::string> patterns, const char* optimizer) -> Result<std::map<std::string, double>> {
    Graph g = Parse(kChain);
    PassContext context;
    context.optimizer = optimizer;
    context.weight_decay = 0.25;
    context.no_decay = std::move(patterns);
    RETURN_IF_ERROR(step::AddOptimizer(g, context));
    std::map<std::string, double> of_updates;
    for (const Node* update : Find(g, fmt::format("autosp.{}_", optimizer))) of_updates[update->module] = update->args.back().number();
    return of_updates;
  };
  EXPECT_EQ(*decays({"1"}, "adamw"), (std::map<std::string, double>{{"w1", 0}, {"w2", 0.25}})) << "found anywhere in the name";
  EXPECT_EQ(*decays({"^w2$", "absent|1"}, "sgd"), (std::map<std::string, double>{{"w1", 0}, {"w2", 0}}));
  const auto says = [&](std::vector<std::string> patterns, const char* optimizer, Code code, const char* part) {
    const auto result = decays(std::move(patterns), optimizer);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, code);
    EXPECT_NE(result.error().Format().find(part), std::string::npos) << result.error().Format();
  };
  says({"w1", "bias"}, "adamw", Code::kBadInput, "'bias' matches no parameter");
  says({"bias"}, "adamw", Code::kBadInput, "w1, w2");
  says({"w("}, "adamw", Code::kUsage, "no regular expression");
  says({"w1"}, "none", Code::kUsage, "without an optimizer");
}

TEST(Optimizer, TwoNamesOfOneParameterAreOneUpdate) {
  Graph g = Parse(R"(graph @g {
    input %w : f32[4]{1} parameter "head" grad
    input %e : f32[4]{1} parameter "embed" grad alias "head"
    %l = aten.sum.default(%w, none) : f32[]{}
    %gw = aten.neg.default(%w) : f32[4]{1} !phase backward
    %ge = aten.neg.default(%e) : f32[4]{1} !phase backward
    output loss %l "loss"
    output gradient %gw "head"
    output gradient %ge "embed"
  })");
  PassContext context;
  context.optimizer = "adamw";
  ASSERT_TRUE(RunPass(step::AddOptimizer, g, context));
  ASSERT_EQ(Find(g, "autosp.adamw_").size(), 1u);
  const ValueId sum = Find(g, "autosp.adamw_")[0]->args[2].value;
  EXPECT_EQ(g.producer(sum)->op, "aten.add.Tensor");
  EXPECT_EQ(OutputValue(g, ir::OutputKind::kGradient, "head").id, sum);
  EXPECT_EQ(OutputValue(g, ir::OutputKind::kGradient, "embed").id, sum);
  EXPECT_EQ(Find(g, "autosp.grad_norm")[0]->args[0].values, std::vector<ValueId>{sum});
}

TEST(Optimizer, AfterBucketsUpdatesFollowTheReduction) {
  Graph g = Parse(kThree);
  PassContext context;
  context.optimizer = "adamw";
  context.bucket_bytes = 16;
  ASSERT_TRUE(RunPass(step::BucketGradients, g, context));
  ASSERT_TRUE(RunPass(step::AddOptimizer, g, context));
  const auto updates = Find(g, "autosp.adamw_");
  const auto reductions = Find(g, "autosp.all_reduce_");
  ASSERT_EQ(updates.size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_GT(Position(g, *updates[i]), Position(g, *reductions[i]));
  EXPECT_LT(Position(g, *updates[0]), Position(g, *reductions[1])) << "the first gradient dies before the second is born";
}

TEST(Optimizer, UnknownNamesAreUsageErrors) {
  Graph g = Parse(kChain);
  PassContext context;
  context.optimizer = "adam";
  Result<bool> result = step::AddOptimizer(g, context);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, Code::kUsage);
  EXPECT_NE(result.error().what.find("'adam'"), std::string::npos);
  context.optimizer = "sgd";
  context.clip_norm = -1;
  result = step::AddOptimizer(g, context);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, Code::kUsage);
}

TEST(Optimizer, AGradientOfNoParameterIsOurBug) {
  Graph g = Parse(kChain);
  g.outputs[1].name = "nobody";
  PassContext context;
  const Result<bool> result = step::AddOptimizer(g, context);
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().what.find("'nobody'"), std::string::npos);
}

TEST(Buffers, AreWrittenAfterTheirLastReader) {
  Graph g = Parse(R"(graph @g {
    input %m : f32[4]{1} buffer "running_mean"
    input %n : i64[]{} buffer "count"
    %new = aten.neg.default(%m) : f32[4]{1}
    %one = aten.add.Tensor(%n, 1, 1) : i64[]{}
    %old = aten.exp.default(%m) : f32[4]{1}
    %l = aten.sum.default(%old, none) : f32[]{}
    output loss %l "loss"
    output buffer_update %new "running_mean"
    output buffer_update %one "count"
  })");
  PassContext context;
  ASSERT_TRUE(RunPass(step::WriteBuffers, g, context));
  const auto copies = Find(g, "aten.copy_.default");
  ASSERT_EQ(copies.size(), 2u);
  EXPECT_EQ(copies[0]->args[0].value, g.FindValue("m"));
  EXPECT_EQ(copies[0]->args[1].value, g.FindValue("new"));
  EXPECT_GT(Position(g, *copies[0]), Position(g, *g.producer(g.FindValue("old"))));
  EXPECT_EQ(OutputValue(g, ir::OutputKind::kBufferUpdate, "running_mean").id, g.FindValue("m"));
  EXPECT_FALSE(RunPass(step::WriteBuffers, g, context)) << "they are written";
}

TEST(Buffers, ThatChangePlacesAreSetAside) {
  Graph g = Parse(R"(graph @g {
    input %a : f32[4]{1} buffer "a"
    input %b : f32[4]{1} buffer "b"
    %l = aten.sum.default(%a, none) : f32[]{}
    output loss %l "loss"
    output buffer_update %b "a"
    output buffer_update %a "b"
  })");
  PassContext context;
  ASSERT_TRUE(RunPass(step::WriteBuffers, g, context));
  const std::vector<std::string> ops = Ops(g);
  EXPECT_EQ(ops, (std::vector<std::string>{"aten.sum.default", "aten.clone.default", "aten.clone.default",
                                           "aten.copy_.default", "aten.copy_.default"}));
}

TEST(Pipeline, NamesArePasses) {
  PassRegistry registry;
  RegisterStepPasses(registry);
  PassContext context;
  EXPECT_EQ(StepPipeline(context).size(), 3u);
  context.micro_batches = 2;
  EXPECT_EQ(StepPipeline(context).size() + 1, registry.all().size()) << "all but what comes before differentiation";
  for (const std::string& name : StepPipeline(context)) EXPECT_NE(registry.Find(name), nullptr) << name;
}

}  // namespace
}  // namespace autospc
