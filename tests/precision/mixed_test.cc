// What "mixed-precision" decides, on small graphs. Whole models: tests/e2e/precision_test.cc.
#include <gtest/gtest.h>

#include <string>

#include "passes/ir/parser.h"
#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "passes/precision/register.h"

namespace autospc::precision {
namespace {

ir::Graph Mixed(const std::string& text) {
  auto graph = ir::Parse(text);
  EXPECT_TRUE(graph.ok()) << graph.error().Format();
  PassContext context;
  context.dtype = "bf16";
  const Result<bool> changed = MixPrecision(*graph, context);
  EXPECT_TRUE(changed.ok()) << changed.error().Format();
  const auto violations = ir::Verify(*graph);
  EXPECT_TRUE(violations.empty()) << violations[0] << "\n" << ir::Print(*graph);
  return std::move(graph).value();
}

ir::DType TypeOf(const ir::Graph& graph, const char* name) { return graph.value(graph.FindValue(name)).dtype; }

constexpr ir::DType kNarrow = ir::DType::kBFloat16, kWide = ir::DType::kFloat32;

TEST(MixedTest, WithoutTheOptionNothingChanges) {
  auto graph = ir::Parse("graph @g {\n  input %w : f32[4] parameter \"w\" grad\n"
                         "  %y = aten.mul.Tensor(%w, %w) : f32[4]\n  output user %y \"y\"\n}\n");
  ASSERT_TRUE(graph.ok());
  PassContext context;
  const Result<bool> changed = MixPrecision(*graph, context);
  ASSERT_TRUE(changed.ok());
  EXPECT_FALSE(*changed);
}

// What depends on no parameter computes as exported, products too: HF's rotary angles are a matmul.
TEST(MixedTest, TablesStayFloat32AmongThemselves) {
  const ir::Graph graph = Mixed(R"(graph @g {
  input %w : f32[4, 4] parameter "w" grad
  input %inv : f32[4, 1] buffer "inv"
  input %x : i64[1, 3] user "x"
  %p = aten.to.dtype(%x, dtype(f32), false, false, none) : f32[1, 3]
  %angles = aten.matmul.default(%inv, %p) : f32[4, 3]
  %cos = aten.cos.default(%angles) : f32[4, 3]
  %y = aten.mm.default(%w, %cos) : f32[4, 3]
  %loss = aten.sum.default(%y, none) : f32[]
  output loss %loss "loss"
}
)");
  EXPECT_EQ(TypeOf(graph, "angles"), kWide);
  EXPECT_EQ(TypeOf(graph, "cos"), kWide);
  EXPECT_EQ(TypeOf(graph, "y"), kNarrow);
  EXPECT_EQ(TypeOf(graph, "w"), kNarrow);
  EXPECT_EQ(TypeOf(graph, "loss"), kWide);
}

// Layer norm: the operand in bfloat16, weight, bias and statistics in float32.
TEST(MixedTest, NormsKeepTheirWeights) {
  const ir::Graph graph = Mixed(R"(graph @g {
  input %w : f32[4, 4] parameter "w" grad
  input %n : f32[4] parameter "n" grad
  input %b : f32[4] parameter "b" grad
  input %ids : i64[3] user "ids"
  %e = aten.embedding.default(%w, %ids, -1, false, false) : f32[3, 4]
  %y, %mean, %rstd = aten.native_layer_norm.default(%e, [4], %n, %b, 1e-05) : f32[3, 4], f32[3, 1], f32[3, 1]
  %z = aten.linear.default(%y, %w, none) : f32[3, 4]
  %loss = aten.sum.default(%z, none) : f32[]
  output loss %loss "loss"
}
)");
  EXPECT_EQ(TypeOf(graph, "n"), kWide);
  EXPECT_EQ(TypeOf(graph, "y"), kNarrow);
  EXPECT_EQ(TypeOf(graph, "mean"), kWide);
  EXPECT_EQ(TypeOf(graph, "rstd"), kWide);
}

// A parameter that meets an activation and, elsewhere, computes by itself is cast; names of one storage stay of one type.
TEST(MixedTest, AParameterOfBothUsesStaysFloat32) {
  const ir::Graph graph = Mixed(R"(graph @g {
  input %w : f32[4, 4] parameter "w" grad
  input %tied : f32[4, 4] parameter "tied" grad alias "w"
  input %v : f32[4, 4] parameter "v" grad
  input %ids : i64[3] user "ids"
  %e = aten.embedding.default(%w, %ids, -1, false, false) : f32[3, 4]
  %z = aten.linear.default(%e, %tied, none) : f32[3, 4]
  %vt = aten.t.default(%v) : f32[4, 4]
  %q = aten.mm.default(%z, %vt) : f32[3, 4]
  %decay = aten.pow.Tensor_Scalar(%tied, 2) : f32[4, 4]
  %penalty = aten.sum.default(%decay, none) : f32[]
  %sum = aten.sum.default(%q, none) : f32[]
  %loss = aten.add.Tensor(%sum, %penalty, 1) : f32[]
  output loss %loss "loss"
}
)");
  EXPECT_EQ(TypeOf(graph, "w"), kWide);
  EXPECT_EQ(TypeOf(graph, "tied"), kWide);
  EXPECT_EQ(TypeOf(graph, "e"), kNarrow);
  EXPECT_EQ(TypeOf(graph, "v"), kNarrow) << "a transpose of a parameter is no float32 use";
  EXPECT_EQ(TypeOf(graph, "vt"), kNarrow);
  EXPECT_EQ(TypeOf(graph, "loss"), kWide);
}

// log-probabilities picked for a loss are not rounded on their way to its mean.
TEST(MixedTest, WhatGoesToALossIsNotRounded) {
  const ir::Graph graph = Mixed(R"(graph @g {
  input %w : f32[8, 4] parameter "w" grad
  input %ids : i64[3] user "ids"
  input %labels : i64[3, 1] user "labels"
  %e = aten.embedding.default(%w, %ids, -1, false, false) : f32[3, 4]
  %logits = aten.linear.default(%e, %w, none) : f32[3, 8]
  %lse = aten.logsumexp.default(%logits, [-1], true) : f32[3, 1]
  %centred = aten.sub.Tensor(%logits, %lse, 1) : f32[3, 8]
  %picked = aten.gather.default(%centred, 1, %labels, false) : f32[3, 1]
  %neg = aten.neg.default(%picked) : f32[3, 1]
  %loss = aten.mean.default(%neg, none) : f32[]
  output loss %loss "loss"
}
)");
  EXPECT_EQ(TypeOf(graph, "logits"), kNarrow);
  EXPECT_EQ(TypeOf(graph, "centred"), kWide);
  EXPECT_EQ(TypeOf(graph, "picked"), kWide);
  EXPECT_EQ(TypeOf(graph, "neg"), kWide);
}

// An additive mask may hold float32's minimum, which is -inf in bfloat16.
TEST(MixedTest, WhatIsAddedToATableIsFloat32) {
  const ir::Graph graph = Mixed(R"(graph @g {
  input %w : f32[4, 4] parameter "w" grad
  input %mask : f32[3, 4] buffer "mask"
  input %ids : i64[3] user "ids"
  %e = aten.embedding.default(%w, %ids, -1, false, false) : f32[3, 4]
  %biased = aten.add.Tensor(%e, %mask, 1) : f32[3, 4]
  %gated = aten.mul.Tensor(%e, %mask) : f32[3, 4]
  %y = aten.mm.default(%biased, %w) : f32[3, 4]
  %z = aten.mm.default(%gated, %w) : f32[3, 4]
  %like = aten.zeros_like.default(%z, none, none, none, none, none) : f32[3, 4]
  %yz = aten.mul.Tensor(%y, %z) : f32[3, 4]
  %all = aten.sub.Tensor(%yz, %like, 1) : f32[3, 4]
  %loss = aten.sum.default(%all, none) : f32[]
  output loss %loss "loss"
  output user %all "all"
}
)");
  EXPECT_EQ(TypeOf(graph, "biased"), kWide);
  EXPECT_EQ(TypeOf(graph, "gated"), kNarrow);
  EXPECT_EQ(TypeOf(graph, "like"), kWide);
}

}  // namespace
}  // namespace autospc::precision
