// Higher-order regions: inlined, with what they mean for gradients and dtypes.
#include <gtest/gtest.h>

#include "compiler/import/import.h"
#include "tests/import/pt2_builder.h"

namespace autospc::import {
namespace {

using testing::In;
using testing::json;
using testing::MakeNode;
using testing::Meta;
using testing::Pt2Builder;
using testing::T;

struct Body {
  json graph = testing::MakeGraph();

  Body& Input(const std::string& name, const json& meta) {
    graph["inputs"].push_back(T(name));
    graph["tensor_values"][name] = meta;
    return *this;
  }
  Body& Add(const json& node, const json& meta) {
    graph["nodes"].push_back(node);
    graph["tensor_values"][node["outputs"][0]["as_tensor"]["name"].get<std::string>()] = meta;
    return *this;
  }
  Body& Output(const std::string& name) {
    graph["outputs"].push_back(T(name));
    return *this;
  }
  json Arg() const { return In("", {{"as_graph", {{"name", "g"}, {"graph", graph}}}}); }
};

json SetGrad(bool enabled, const Body& body, const std::vector<std::string>& inputs,
             const std::vector<std::string>& results) {
  std::vector<json> args = {In("", {{"as_bool", enabled}}), body.Arg()}, outputs;
  for (const std::string& i : inputs) args.push_back(In("", T(i)));
  for (const std::string& r : results) outputs.push_back(T(r));
  return MakeNode("higher_order.wrap_with_set_grad_enabled", args, outputs);
}

json Autocast(const std::string& device, const json& dtype, bool enabled, const Body& body,
              const std::vector<std::string>& inputs, const std::vector<std::string>& results, bool cache = false) {
  std::vector<json> args = {In("", {{"as_string", device}}), In("", dtype), In("", {{"as_bool", enabled}}),
                            In("", {{"as_bool", cache}}), body.Arg()};
  std::vector<json> outputs;
  for (const std::string& i : inputs) args.push_back(In("", T(i)));
  for (const std::string& r : results) outputs.push_back(T(r));
  return MakeNode("higher_order.wrap_with_autocast", args, outputs);
}

const json kBf16 = {{"as_scalar_type", testing::kBFloat16}};

// x [2, 4] -> region -> sum of its results.
Pt2Builder WithRegions(const std::vector<json>& nodes, const std::string& result, const json& meta,
                 const json& x = Meta({2, 4})) {
  Pt2Builder b;
  b.User("x", x);
  for (const json& n : nodes) {
    b.graph()["nodes"].push_back(n);
    for (const json& o : n["outputs"]) b.graph()["tensor_values"][o["as_tensor"]["name"].get<std::string>()] = meta;
  }
  b.Node("aten.sum.default", {In("self", T(result)), In("dtype", {{"as_scalar_type", testing::kFloat32}})}, "loss",
         Meta({}));
  b.Output("loss");
  return b;
}

// "op(operand, …) -> result", one a line, in order.
std::string Text(const ir::Graph& g) {
  std::string text;
  for (const ir::NodeId id : g.nodes()) {
    const ir::Node& n = g.node(id);
    text += std::string(ir::ShortName(n.op)) + "(";
    for (const ir::ValueId v : n.Operands()) text += g.value(v).name + " ";
    for (const ir::ValueId v : n.results)
      text += ")-> " + g.value(v).name + ":" + std::string(ir::Name(g.value(v).dtype));
    text += "\n";
  }
  return text;
}

std::string Imported(const Pt2Builder& b) {
  const auto model = b.Import();
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().Format());
  return model.ok() ? Text(model->graph) : "";
}

Body Relu(const std::string& result, const json& meta = Meta({2, 4})) {
  return Body()
      .Input("a", meta)
      .Add(MakeNode("aten.relu.default", {In("self", T("a"))}, {T(result)}), meta)
      .Output(result);
}

TEST(Regions, NoGradEndsInStopGradient) {
  EXPECT_EQ(Imported(WithRegions({SetGrad(false, Relu("r"), {"x"}, {"y"})}, "y", Meta({2, 4}))),
            "relu(x )-> r:f32\nstop_gradient(r )-> stop_gradient:f32\nsum(stop_gradient )-> loss:f32\n");
  // Where gradients stay on nothing stops.
  EXPECT_EQ(Imported(WithRegions({SetGrad(true, Relu("r"), {"x"}, {"y"})}, "y", Meta({2, 4}))),
            "relu(x )-> r:f32\nsum(r )-> loss:f32\n");
}

// What only passes through a region was not computed in it.
TEST(Regions, WhatPassesThroughKeepsItsGradient) {
  const Body body = Body().Input("a", Meta({2, 4})).Output("a");
  EXPECT_EQ(Imported(WithRegions({SetGrad(false, body, {"x"}, {"y"})}, "y", Meta({2, 4}))), "sum(x )-> loss:f32\n");
}

TEST(Regions, IntegersNeedNoStop) {
  const json meta = Meta({2, 4}, testing::kInt64);
  EXPECT_EQ(Imported(WithRegions({SetGrad(false, Relu("r", meta), {"x"}, {"y"})}, "y", meta, meta)),
            "relu(x )-> r:i64\nsum(r )-> loss:f32\n");
}

// enable_grad inside of no_grad: its input is stopped, its result is not.
TEST(Regions, GradInsideNoGrad) {
  Body outer = Body().Input("a", Meta({2, 4}));
  outer.Add(MakeNode("aten.neg.default", {In("self", T("a"))}, {T("n")}), Meta({2, 4}));
  outer.Add(SetGrad(true, Relu("r"), {"n"}, {"m"}), Meta({2, 4}));
  outer.Output("m");
  EXPECT_EQ(
      Imported(WithRegions({SetGrad(false, outer, {"x"}, {"y"})}, "y", Meta({2, 4}))),
      "neg(x )-> n:f32\nstop_gradient(n )-> stop_gradient:f32\nrelu(stop_gradient )-> r:f32\nsum(r )-> loss:f32\n");
}

// Names of a body are its own: the same name outside is another value.
TEST(Regions, NamesAreScoped) {
  const auto text = Imported(
      WithRegions({SetGrad(true, Relu("r"), {"x"}, {"y"}), SetGrad(true, Relu("r"), {"y"}, {"z"})}, "z", Meta({2, 4})));
  EXPECT_EQ(text, "relu(x )-> r:f32\nrelu(r )-> r_1:f32\nsum(r_1 )-> loss:f32\n");
}

Body Linear(const std::string& result, int dtype, int in_dtype = testing::kFloat32, const std::string& device = "cpu") {
  return Body()
      .Input("a", Meta({2, 4}, in_dtype, device))
      .Input("w", Meta({4, 4}, testing::kFloat32, device))
      .Add(MakeNode("aten.linear.default", {In("input", T("a")), In("weight", T("w"))}, {T(result)}),
           Meta({2, 4}, dtype, device))
      .Output(result);
}

Pt2Builder WithWeight(const std::vector<json>& nodes, const std::string& result, int dtype,
                      int x_dtype = testing::kFloat32, const std::string& device = "cpu") {
  auto b = WithRegions(nodes, result, Meta({2, 4}, dtype, device), Meta({2, 4}, x_dtype, device));
  b.Parameter("w", Meta({4, 4}, testing::kFloat32, device), "weight_0").Data("weights/weight_0", std::string(64, '\0'));
  return b;
}

TEST(Regions, AutocastMakesItsCastsExplicit) {
  EXPECT_EQ(Imported(WithWeight({Autocast("cpu", kBf16, true, Linear("l", testing::kBFloat16), {"x", "p_w"}, {"y"})},
                                "y", testing::kBFloat16)),
            "to(x )-> to:bf16\nto(p_w )-> to_1:bf16\nlinear(to to_1 )-> l:bf16\nsum(l )-> loss:f32\n");
  // Switched off, and of another device: as written.
  for (const json& region :
       {Autocast("cpu", kBf16, false, Linear("l", testing::kFloat32), {"x", "p_w"}, {"y"}),
        Autocast("cuda", {{"as_none", true}}, true, Linear("l", testing::kFloat32), {"x", "p_w"}, {"y"})}) {
    EXPECT_EQ(Imported(WithWeight({region}, "y", testing::kFloat32)), "linear(x p_w )-> l:f32\nsum(l )-> loss:f32\n");
  }
  // An export from a GPU; float16 is the default there.
  EXPECT_EQ(
      Imported(WithWeight({Autocast("cuda", {{"as_none", true}}, true,
                                    Linear("l", testing::kFloat16, testing::kFloat32, "cuda"), {"x", "p_w"}, {"y"})},
                          "y", testing::kFloat16, testing::kFloat32, "cuda")),
      "to(x )-> to:f16\nto(p_w )-> to_1:f16\nlinear(to to_1 )-> l:f16\nsum(l )-> loss:f32\n");
}

// float64 is never cast.
TEST(Regions, AutocastLeavesFloat64) {
  EXPECT_EQ(Imported(WithWeight(
                {Autocast("cpu", kBf16, true, Linear("l", testing::kFloat64, testing::kFloat64), {"x", "p_w"}, {"y"})},
                "y", testing::kFloat64, testing::kFloat64)),
            "to(p_w )-> to:bf16\nlinear(x to )-> l:f64\nsum(l )-> loss:f32\n");
}

// A region switched off inside of one that is on, and float32 ops.
TEST(Regions, AutocastNests) {
  Body outer = Body().Input("a", Meta({2, 4})).Input("w", Meta({4, 4}));
  outer.Add(MakeNode("aten.linear.default", {In("input", T("a")), In("weight", T("w"))}, {T("l")}),
            Meta({2, 4}, testing::kBFloat16));
  Body inner = Body().Input("b", Meta({2, 4}, testing::kBFloat16));
  inner
      .Add(MakeNode("aten.mse_loss.default", {In("self", T("b")), In("target", T("b"))}, {T("off")}),
           Meta({}, testing::kBFloat16))
      .Output("off");
  outer.Add(Autocast("cpu", kBf16, false, inner, {"l"}, {"i"}), Meta({}, testing::kBFloat16));
  outer.Add(MakeNode("aten.mse_loss.default", {In("self", T("l")), In("target", T("l"))}, {T("on")}), Meta({}));
  outer.Add(MakeNode("aten.add.Tensor", {In("self", T("i")), In("other", T("on"))}, {T("s")}), Meta({})).Output("s");
  EXPECT_EQ(Imported(WithWeight({Autocast("cpu", kBf16, true, outer, {"x", "p_w"}, {"y"})}, "y", testing::kFloat32)),
            "to(x )-> to:bf16\nto(p_w )-> to_1:bf16\nlinear(to to_1 )-> l:bf16\nmse_loss(l l )-> off:bf16\n"
            "to(l )-> to_2:f32\nto(l )-> to_3:f32\nmse_loss(to_2 to_3 )-> on:f32\nadd(off on )-> s:f32\nsum(s )-> "
            "loss:f32\n");
}

// With the cache on, a parameter is cast once, as in eager mode; its gradient then adds up in the lower precision.
TEST(Regions, AutocastCachesParameters) {
  Body body = Linear("l", testing::kBFloat16);
  body.graph["outputs"] = json::array();
  body.Add(MakeNode("aten.linear.default", {In("input", T("l")), In("weight", T("w"))}, {T("m")}),
           Meta({2, 4}, testing::kBFloat16))
      .Output("m");
  const std::string once =
      "to(x )-> to:bf16\nto(p_w )-> to_1:bf16\nlinear(to to_1 )-> l:bf16\nlinear(l to_1 )-> m:bf16\nsum(m )-> "
      "loss:f32\n";
  const std::string twice =
      "to(x )-> to:bf16\nto(p_w )-> to_1:bf16\nlinear(to to_1 )-> l:bf16\nto(p_w )-> to_2:bf16\nlinear(l to_2 )-> "
      "m:bf16\nsum(m )-> loss:f32\n";
  EXPECT_EQ(
      Imported(WithWeight({Autocast("cpu", kBf16, true, body, {"x", "p_w"}, {"y"}, true)}, "y", testing::kBFloat16)),
      once);
  EXPECT_EQ(
      Imported(WithWeight({Autocast("cpu", kBf16, true, body, {"x", "p_w"}, {"y"}, false)}, "y", testing::kBFloat16)),
      twice);
}

// A no_grad inside of autocast leaves only a cut.
TEST(Regions, ALostNoGradIsToldOf) {
  const auto region = [](const std::string& from, const std::string& to) {
    return Autocast("cpu", kBf16, true, Relu("r"), {from}, {to});
  };
  const auto cut = WithRegions({region("x", "y"), region("y", "z")}, "z", Meta({2, 4})).Import();
  ASSERT_TRUE(cut.ok());
  ASSERT_EQ(cut->warnings.size(), 1u);
  EXPECT_NE(cut->warnings[0].find("no_grad"), std::string::npos);
  EXPECT_TRUE(WithRegions({region("x", "y")}, "y", Meta({2, 4})).Import()->warnings.empty());
}

TEST(Regions, BrokenOnes) {
  const auto expect = [](const Pt2Builder& b, const std::string& what) {
    const auto model = b.Import();
    ASSERT_FALSE(model.ok()) << what;
    EXPECT_EQ(model.error().code, Code::kBadInput);
    EXPECT_NE(model.error().what.find(what), std::string::npos) << model.error().Format();
  };
  expect(WithRegions({SetGrad(false, Relu("r"), {}, {"y"})}, "y", Meta({2, 4})), "takes 1 inputs and is given 0");
  expect(WithRegions({SetGrad(false, Relu("r"), {"x"}, {"y", "z"})}, "y", Meta({2, 4})), "makes 1 results and 2 are taken");
  auto b = WithRegions({SetGrad(false, Relu("r"), {"x"}, {"y"})}, "y", Meta({2, 4}));
  b.graph()["nodes"][0]["inputs"].erase(1);
  b.graph()["nodes"][0]["inputs"].erase(1);
  expect(b, "lacks its body");
  json node = SetGrad(true, Relu("r"), {"x"}, {"y"});
  for (int i = 0; i < 70; ++i) {
    Body deeper = Body().Input("x", Meta({2, 4}));
    node = SetGrad(true, deeper.Add(node, Meta({2, 4})).Output("y"), {"x"}, {"y"});
  }
  expect(WithRegions({node}, "y", Meta({2, 4})), "nested too deep");
}

}  // namespace
}  // namespace autospc::import
