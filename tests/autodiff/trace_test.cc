// Tracing: what is recorded of a small graph, and every way in which it refuses one.
#include "compiler/autodiff/trace.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/ir/printer.h"

namespace autospc::autodiff {
namespace {

ir::Graph Parsed(const std::string& text) {
  auto graph = ir::Parse(text, "test.ir");
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.error().Format());
  return graph.ok() ? *graph : ir::Graph();
}

constexpr char kRow[] = R"(graph @row {
  input %w : f32[4, 3]{3, 1} parameter "w" grad
  input %frozen : f32[4]{1} parameter "frozen"
  input %unused : f32[4]{1} parameter "unused" grad
  input %x : f32[5, 3]{3, 1} user "x"
  %y = aten.linear.default(%x, %w, %frozen) : f32[5, 4] !src "model.py:7" !mod "layer"
  %z = aten.tanh.default(%y) : f32[5, 4] !src "model.py:8"
  %loss = aten.sum.default(%z, none) : f32[] !src "model.py:9"
  output loss %loss "loss"
}
)";

const ir::Node* FindOp(const ir::Graph& graph, std::string_view op) {
  for (ir::NodeId id : graph.nodes()) {
    if (graph.node(id).op == op) return &graph.node(id);
  }
  return nullptr;
}

TEST(Trace, GradientsOfParametersThatWantAndGetOne) {
  const auto joint = Trace(Parsed(kRow));
  ASSERT_TRUE(joint.ok()) << joint.error().Format();
  std::vector<std::string> gradients;
  for (const ir::GraphOutput& out : joint->outputs) {
    if (out.kind == ir::OutputKind::kGradient) gradients.push_back(out.name);
  }
  EXPECT_EQ(gradients, std::vector<std::string>{"w"});  // not the frozen one, not the unused one
}

TEST(Trace, BackwardNodesNameTheirForwardSource) {
  const auto joint = Trace(Parsed(kRow));
  ASSERT_TRUE(joint.ok()) << joint.error().Format();
  const ir::Node* backward = FindOp(*joint, "aten.tanh_backward.default");
  ASSERT_NE(backward, nullptr) << ir::Print(*joint);
  EXPECT_EQ(backward->phase, ir::Phase::kBackward);
  EXPECT_EQ(backward->source, "model.py:8");
}

TEST(Trace, ViewsShareTheStorageOfTheirBase) {
  const auto joint = Trace(Parsed(kRow));
  ASSERT_TRUE(joint.ok()) << joint.error().Format();
  const ir::Node* t = FindOp(*joint, "aten.t.default");
  ASSERT_NE(t, nullptr) << ir::Print(*joint);
  const ir::Value& view = joint->value(t->results[0]);
  EXPECT_EQ(view.base, joint->FindValue("w"));
  EXPECT_EQ(view.int_strides(), (std::vector<int64_t>{1, 3}));
}

TEST(Trace, TheSameGraphGivesTheSameText) {
  const auto a = Trace(Parsed(kRow)), b = Trace(Parsed(kRow));
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(ir::Print(*a), ir::Print(*b));
}

// An adjoint of each conversion: what its backward pass calls.
TEST(Trace, ConversionsHaveTheirAdjoints) {
  const auto joint = Trace(Parsed(R"(graph @conversions {
  input %w : f32[4, 6]{6, 1} parameter "w" grad
  %v = autosp.vary(%w) : f32[4, 6]
  %s = autosp.shard(%w, 0, 2, false) : f32[2, 6]
  %a = autosp.all_to_all(%s, 0, 4, 1, 3, false) : f32[4, 3]
  %m = autosp.mask(%a, 1, 6, 0) : f32[4, 3]
  %p = aten.sum.dim_IntList(%m, [1], false, none) : f32[4]
  %q = aten.sum.dim_IntList(%v, [1], false, none) : f32[4]
  %f = autosp.first(%q) : f32[4]
  %r = aten.add.Tensor(%p, %f, 1) : f32[4]
  %g = autosp.all_reduce(%r, "sum") : f32[4]
  %loss = aten.sum.default(%g, none) : f32[]
  output loss %loss "loss"
}
)"));
  ASSERT_TRUE(joint.ok()) << joint.error().Format();
  std::vector<std::string> ops;
  for (ir::NodeId id : joint->nodes()) {
    const ir::Node& n = joint->node(id);
    if (n.phase == ir::Phase::kBackward && n.op.starts_with("autosp.")) ops.push_back(n.op);
  }
  for (const char* op : {"autosp.vary", "autosp.first", "autosp.all_reduce", "autosp.mask", "autosp.all_to_all", "autosp.all_gather"}) {
    EXPECT_EQ(std::count(ops.begin(), ops.end(), op), 1) << op << "\n" << ir::Print(*joint);
  }
}

struct Refusal {
  const char* text;
  Code code;
  const char* what;
};

TEST(Trace, RefusesWithTheNodeAndItsSource) {
  const Refusal refusals[] = {
      // Recorded sizes that are not what the op gives.
      {R"(graph @g {
  input %x : f32[5, 3]{3, 1} parameter "x" grad
  %y = aten.tanh.default(%x) : f32[5, 4] !src "model.py:3"
  %loss = aten.sum.default(%y, none) : f32[]
  output loss %loss "loss"
}
)", Code::kBadInput, "the graph says"},
      // Shapes that don't go together.
      {R"(graph @g {
  input %x : f32[5, 3]{3, 1} parameter "x" grad
  %y = aten.mm.default(%x, %x) : f32[5, 3] !src "model.py:3"
  %loss = aten.sum.default(%y, none) : f32[]
  output loss %loss "loss"
}
)", Code::kBadInput, "mat1"},
      // No such op.
      {R"(graph @g {
  input %x : f32[5, 3]{3, 1} parameter "x" grad
  %y = mine.op.default(%x) : f32[5, 3] !src "model.py:3"
  output loss %y "loss"
}
)", Code::kUnsupported, "no schema"},
      // A shape that depends on data.
      {R"(graph @g {
  input %x : f32[5, 3]{3, 1} parameter "x" grad
  %y = aten.nonzero.default(%x) : i64[5, 2] !src "model.py:3"
  output loss %y "loss"
}
)", Code::kUnsupported, ""},
  };
  for (const Refusal& r : refusals) {
    const auto joint = Trace(Parsed(r.text));
    ASSERT_FALSE(joint.ok()) << r.text;
    EXPECT_EQ(joint.error().code, r.code) << joint.error().Format();
    EXPECT_NE(joint.error().what.find(r.what), std::string::npos) << joint.error().Format();
    EXPECT_NE(joint.error().where.find("model.py:3"), std::string::npos) << joint.error().Format();
  }
}

TEST(Trace, TheLossMustBeAScalarThatDependsOnAParameter) {
  const auto vector = Trace(Parsed(R"(graph @g {
  input %x : f32[5]{1} parameter "x" grad
  %y = aten.tanh.default(%x) : f32[5]
  output loss %y "loss"
}
)"));
  ASSERT_FALSE(vector.ok());
  EXPECT_EQ(vector.error().code, Code::kBadInput);
  const auto constant = Trace(Parsed(R"(graph @g {
  input %x : f32[5]{1} parameter "x" grad
  input %c : f32[5]{1} user "c"
  %y = aten.sum.default(%c, none) : f32[]
  output loss %y "loss"
}
)"));
  ASSERT_FALSE(constant.ok());
  EXPECT_EQ(constant.error().code, Code::kUnsupported);
}

}  // namespace
}  // namespace autospc::autodiff
