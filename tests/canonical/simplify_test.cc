#include <gtest/gtest.h>

#include "passes/canonical/register.h"
#include "passes/ir/graph.h"

namespace autospc {
namespace {

using ir::Arg;
using ir::DType;
using ir::Graph;
using ir::ValueId;

ValueId Parameter(Graph& g, const char* name, std::vector<ir::Expr> sizes, bool requires_grad = true) {
  return g.AddInput({.kind = ir::InputKind::kParameter, .name = name, .requires_grad = requires_grad}, name,
                    DType::kFloat32, std::move(sizes));
}

void Output(Graph& g, ValueId v) { g.outputs.push_back({v, ir::OutputKind::kUser, "out"}); }

std::vector<std::string> Ops(const Graph& g) {
  std::vector<std::string> ops;
  for (ir::NodeId id : g.nodes()) ops.push_back(g.node(id).op);
  return ops;
}

std::vector<std::string> Simplified(Graph& g) {
  PassContext context;
  const auto changed = canonical::Simplify(g, context);
  EXPECT_TRUE(changed.ok());
  return Ops(g);
}

using Strings = std::vector<std::string>;

TEST(Simplify, DropsWhatChangesNothing) {
  Graph g;
  const ValueId x = Parameter(g, "x", {4, 8});
  ValueId v = g.Emit("aten.to.dtype",
                     {Arg::Value(x), Arg::Type(DType::kFloat32), Arg::Bool(false), Arg::Bool(false), Arg::None()},
                     DType::kFloat32, {4, 8});
  v = g.Emit("aten.slice.Tensor", {Arg::Value(v), Arg::Int(0), Arg::Int(0), Arg::Int(INT64_MAX), Arg::Int(1)},
             DType::kFloat32, {4, 8});
  v = g.Emit("aten.expand.default", {Arg::Value(v), Arg::Ints(std::vector<int64_t>{4, -1}), Arg::Bool(false)},
             DType::kFloat32, {4, 8});
  v = g.Emit("aten.dropout.default", {Arg::Value(v), Arg::Float(0.0), Arg::Bool(true)}, DType::kFloat32, {4, 8});
  v = g.Emit("aten.mul.Tensor", {Arg::Value(v), Arg::Float(1.0)}, DType::kFloat32, {4, 8});
  v = g.Emit("aten.alias.default", {Arg::Value(v)}, DType::kFloat32, {4, 8});
  g.AddNode("aten._assert_tensor_metadata.default", {Arg::Value(v)}, {});
  v = g.Emit("aten.sin.default", {Arg::Value(v)}, DType::kFloat32, {4, 8});
  Output(g, v);
  EXPECT_EQ(Simplified(g), Strings{"aten.sin.default"});
  EXPECT_EQ(g.node(g.nodes().front()).args[0].value, x);
}

TEST(Simplify, KeepsWhatDoesSomething) {
  Graph g;
  const ValueId x = Parameter(g, "x", {4, 8});
  ValueId v = g.Emit("aten.to.dtype", {Arg::Value(x), Arg::Type(DType::kFloat64)}, DType::kFloat64, {4, 8});
  v = g.Emit("aten.flip.default", {Arg::Value(v), Arg::Ints(std::vector<int64_t>{0})}, DType::kFloat64, {4, 8});
  v = g.Emit("aten.slice.Tensor", {Arg::Value(v), Arg::Int(0), Arg::Int(3), Arg::Int(-1), Arg::Int(1)}, DType::kFloat64,
             {4, 0});
  v = g.Emit("aten.dropout.default", {Arg::Value(v), Arg::Float(0.1), Arg::Bool(true)}, DType::kFloat64, {4, 0});
  v = g.Emit("aten.add.Tensor", {Arg::Value(v), Arg::Float(0.0), Arg::Int(1)}, DType::kFloat64, {4, 0});
  v = g.Emit("aten.permute.default", {Arg::Value(v), Arg::Ints(std::vector<int64_t>{0, 1})}, DType::kFloat64, {4, 0});
  Output(g, v);
  EXPECT_EQ(Simplified(g), (Strings{"aten.to.dtype", "aten.flip.default", "aten.slice.Tensor", "aten.dropout.default",
                                    "aten.add.Tensor"}));
}

// A detach ends a gradient: it goes only where there is none.
TEST(Simplify, DetachStaysOnDifferentiableValues) {
  for (const bool requires_grad : {true, false}) {
    for (const char* op : {"aten.detach.default", "autosp.stop_gradient"}) {
      Graph g;
      const ValueId x = Parameter(g, "x", {4}, requires_grad);
      const ValueId s = g.Emit("aten.sin.default", {Arg::Value(x)}, DType::kFloat32, {4});
      Output(g, g.Emit(op, {Arg::Value(s)}, DType::kFloat32, {4}));
      EXPECT_EQ(Simplified(g).size(), requires_grad ? 2u : 1u) << op;
    }
  }
}

TEST(Simplify, ViewsBecomeReshapesAndMerge) {
  Graph g;
  const ValueId x = Parameter(g, "x", {4, 8});
  ValueId v = g.Emit("aten.view.default", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{-1})}, DType::kFloat32, {32});
  v = g.Emit("aten._unsafe_view.default", {Arg::Value(v), Arg::Ints(std::vector<int64_t>{2, 16})}, DType::kFloat32,
             {2, 16});
  Output(g, v);
  EXPECT_EQ(Simplified(g), Strings{"aten.reshape.default"});
  EXPECT_EQ(g.node(g.nodes().front()).args[1].int_values(), (std::vector<int64_t>{2, 16}));
  Graph back;
  const ValueId y = Parameter(back, "y", {4, 8});
  v = back.Emit("aten.transpose.int", {Arg::Value(y), Arg::Int(0), Arg::Int(1)}, DType::kFloat32, {8, 4});
  v = back.Emit("aten.transpose.int", {Arg::Value(v), Arg::Int(-1), Arg::Int(-2)}, DType::kFloat32, {4, 8});
  Output(back, v);
  EXPECT_TRUE(Simplified(back).empty());
  EXPECT_EQ(back.outputs[0].value, y);
}

}  // namespace
}  // namespace autospc
