// Graphs that can't be taken, each with what is said of them, and what becomes of inputs, arguments and outputs.
#include "compiler/import/import.h"

#include <gtest/gtest.h>

#include "compiler/import/source.h"
#include "tests/import/pt2_builder.h"

namespace autospc::import {
namespace {

using testing::In;
using testing::json;
using testing::kB;
using testing::kS;
using testing::MakeNode;
using testing::Meta;
using testing::Pt2Builder;
using testing::SmallModel;
using testing::T;

void ExpectError(const Pt2Builder& b, Code code, const std::string& what, const std::string& where = "m.pt2",
                 const ImportOptions& options = {}) {
  const auto model = b.Import(options);
  ASSERT_FALSE(model.ok()) << "accepted, and not refused for: " << what;
  EXPECT_EQ(model.error().code, code) << model.error().Format();
  EXPECT_NE(model.error().what.find(what), std::string::npos) << model.error().Format();
  EXPECT_NE(model.error().where.find(where), std::string::npos) << model.error().Format();
}

// The graph of a model that must import.
ir::Graph GraphOf(const Pt2Builder& b, const ImportOptions& options = {}) {
  auto model = b.Import(options);
  EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().Format());
  return model.ok() ? std::move(model->graph) : ir::Graph();
}

const ir::Node& NodeOf(const ir::Graph& g, const std::string& value) { return *g.producer(g.FindValue(value)); }

// SmallModel with x -> op -> sum.
Pt2Builder WithNode(const std::string& op, const std::vector<json>& inputs, const json& meta,
                    std::vector<std::string> results = {"y"}) {
  Pt2Builder b;
  b.program["range_constraints"]["s0"] = {{"min_val", 2}, {"max_val", 256}};
  b.User("x", Meta({2, kS, 4}));
  std::vector<json> outputs;
  for (const std::string& r : results) {
    outputs.push_back(T(r));
    b.graph()["tensor_values"][r] = meta;
  }
  b.graph()["nodes"].push_back(MakeNode(op, inputs, outputs));
  b.Node("aten.sum.default", {In("self", T(results[0]))}, "loss", Meta({}));
  b.Output("loss");
  return b;
}

TEST(Import, ASmallModel) {
  auto model = SmallModel().Import();
  ASSERT_TRUE(model.ok()) << model.error().Format();
  const ir::Graph& g = model->graph;
  ASSERT_EQ(g.inputs.size(), 2u);
  EXPECT_EQ(g.inputs[0].name, "lin.weight");
  EXPECT_EQ(g.inputs[0].kind, ir::InputKind::kParameter);
  EXPECT_TRUE(g.inputs[0].requires_grad);
  EXPECT_EQ(g.inputs[1].kind, ir::InputKind::kUser);
  EXPECT_EQ(g.symbols.at("s0").min, 2);
  EXPECT_EQ(g.symbols.at("s0").max, 256);
  const ir::Node& linear = NodeOf(g, "linear");
  EXPECT_EQ(linear.op, "aten.linear.default");
  ASSERT_EQ(linear.args.size(), 3u);  // the bias, from the schema
  EXPECT_TRUE(linear.args[2].is_none());
  EXPECT_EQ(linear.source, "net.py:7");
  EXPECT_EQ(linear.module, "block");
  EXPECT_EQ(g.value(linear.results[0]).sizes[1].ToString(), "s0");
  EXPECT_EQ(model->weights.at("lin.weight").bytes, 64);
  EXPECT_EQ(model->torch_version, "2.11.0");
  EXPECT_FALSE(model->decomposed);
  EXPECT_TRUE(model->warnings.empty());
}

TEST(Import, TheFileAsAWhole) {
  auto b = SmallModel();
  b.program["schema_version"]["major"] = 9;
  ExpectError(b, Code::kBadInput, "schema version 9.17");
  b.program.erase("schema_version");
  ExpectError(b, Code::kBadInput, "schema_version", "schema_version in");
  b = SmallModel();
  b.program = json::array();
  ExpectError(b, Code::kBadInput, "unexpected shape");
  auto members = SmallModel().Members();
  for (auto& [name, data] : members) {
    if (name.ends_with("model.json")) data = "{\"graph_module\": ";
  }
  const testing::TempFolder folder;
  testing::WriteFile(folder / "m.pt2", testing::Zip(members));
  const auto broken = ImportPt2(folder / "m.pt2");
  EXPECT_NE(broken.error().what.find("model.json is no JSON"), std::string::npos);
}

TEST(Import, ADecomposedExportIsToldOf) {
  auto b = SmallModel();
  b.program["verifiers"] = {"ATEN"};
  const auto model = b.Import();
  ASSERT_TRUE(model.ok());
  EXPECT_TRUE(model->decomposed);
  ASSERT_EQ(model->warnings.size(), 1u);
  EXPECT_NE(model->warnings[0].find("no_grad"), std::string::npos);
}

TEST(Import, OpsThatLibTorchLacks) {
  ExpectError(WithNode("mine.op.default", {In("x", T("x"))}, Meta({2, kS, 4})), Code::kUnsupported, "mine.op.default",
              "node 'y' (model/net.py:7)");
  ExpectError(WithNode("aten.gelu.mine", {In("self", T("x"))}, Meta({2, kS, 4})), Code::kUnsupported, "aten.gelu.mine");
  auto b = WithNode("aten.gelu.default", {In("self", T("x"))}, Meta({2, kS, 4}));
  b.graph()["nodes"][0]["target"] = "my_module.my_function";
  ExpectError(b, Code::kUnsupported, "my_module.my_function");
  ExpectError(WithNode("higher_order.cond", {In("", T("x"))}, Meta({2, kS, 4})), Code::kUnsupported,
              "higher-order op 'cond'");
}

TEST(Import, DataDependentShapes) {
  ExpectError(WithNode("aten.nonzero.default", {In("self", T("x"))}, Meta({5, 3}, testing::kInt64)), Code::kUnsupported,
              "depends on data", "net.py:7");
  // Index by a mask, but not by positions.
  auto b = WithNode("aten.index.Tensor", {In("self", T("x")), In("indices", {{"as_tensors", {{{"name", "m"}}}}})},
                    Meta({9}));
  b.User("m", Meta({2, kS, 4}, testing::kBool));
  ExpectError(b, Code::kUnsupported, "depends on data");
  b.graph()["tensor_values"]["m"] = Meta({3}, testing::kInt64);
  EXPECT_TRUE(b.Import().ok());
  // As many classes as there are, or as the data has.
  const auto one_hot = [](int64_t classes) {
    return WithNode("aten.one_hot.default", {In("self", T("x")), In("num_classes", {{"as_int", classes}})}, Meta({2, kS, 4, 5}, testing::kInt64));
  };
  EXPECT_TRUE(one_hot(5).Import().ok());
  ExpectError(one_hot(-1), Code::kUnsupported, "depends on data");
  ExpectError(WithNode("aten.relu.default", {In("self", T("x"))}, Meta({"Symbol('u0', integer=True)"})),
              Code::kUnsupported, "symbol u0", "node 'y'");
  // A number read from a tensor.
  b = WithNode("aten.mul.Tensor", {In("self", T("x")), In("other", {{"as_sym_int", {{"as_name", "n"}}}})},
               Meta({2, kS, 4}));
  b.graph()["sym_int_values"]["n"] = testing::Size("Symbol('u1', integer=True)");
  ExpectError(b, Code::kUnsupported, "symbol u1");
  // One that only an assert reads does no harm.
  b = SmallModel();
  b.graph()["sym_int_values"]["n"] = testing::Size("Symbol('u1', integer=True)");
  b.graph()["nodes"].push_back(
      MakeNode("aten.item.default", {In("self", T("loss"))}, {{{"as_sym_int", {{"as_name", "n"}}}}}, "n"));
  b.graph()["nodes"].push_back(
      MakeNode("aten.sym_constrain_range.default", {In("size", {{"as_sym_int", {{"as_name", "n"}}}})}, {}, "c"));
  EXPECT_EQ(GraphOf(b).nodes().size(), 2u);
}

TEST(Import, NamesThatDangle) {
  ExpectError(WithNode("aten.relu.default", {In("self", T("nobody"))}, Meta({2, kS, 4})), Code::kBadInput, "'nobody'",
              "node 'y'");
  auto b = WithNode("aten.relu.default", {In("self", T("x"))}, Meta({2, kS, 4}));
  b.graph()["tensor_values"].erase("y");
  ExpectError(b, Code::kBadInput, "'y' has no recorded shape");
  b = SmallModel();
  b.Output("nobody");
  ExpectError(b, Code::kBadInput, "'nobody'", "output_specs");
  b = WithNode("aten.view.default", {In("self", T("x")), In("size", {{"as_sym_ints", {{{"as_name", "nobody"}}}}})},
               Meta({8}));
  ExpectError(b, Code::kBadInput, "'nobody'");
  b = WithNode("aten.relu.default", {In("self", T("x"))}, Meta({2, kS, 4}), {"x"});
  ExpectError(b, Code::kBadInput, "'x' is defined twice");
}

TEST(Import, Arguments) {
  ExpectError(
      WithNode("aten.gelu.default", {In("self", T("x")), In("aproximate", {{"as_string", "none"}})}, Meta({2, kS, 4})),
      Code::kBadInput, "no argument 'aproximate'");
  ExpectError(WithNode("aten.gelu.default", {}, Meta({2, kS, 4})), Code::kBadInput, "lacks its argument 'self'");
  ExpectError(WithNode("aten.gelu.default", {In("self", T("x")), In("self", T("x"))}, Meta({2, kS, 4})),
              Code::kBadInput, "given twice");
  ExpectError(
      WithNode("aten.gelu.default", {In("self", {{"as_complex", {{"real", 0}, {"imag", 1}}}})}, Meta({2, kS, 4})),
      Code::kUnsupported, "as_complex");
  ExpectError(WithNode("aten.gelu.default", {In("self", {{"as_none", true}})}, Meta({2, kS, 4})), Code::kBadInput,
              "argument 'self' of aten.gelu.default has the wrong type");
  ExpectError(WithNode("aten.gelu.default", {In("self", T("x")), In("approximate", {{"as_int", 1}})}, Meta({2, kS, 4})),
              Code::kBadInput, "wrong type");
  ExpectError(WithNode("aten.to.dtype", {In("self", T("x")), In("dtype", {{"as_scalar_type", 30}})}, Meta({2, kS, 4})),
              Code::kUnsupported, "float8_e5m2");
  ExpectError(WithNode("aten.mul.Tensor", {In("self", T("x")), In("other", {{"as_float", "seven"}})}, Meta({2, kS, 4})),
              Code::kBadInput, "'seven'");
  ExpectError(WithNode("aten.to_sparse.default", {In("self", T("x"))},
                       [] {
                         json m = Meta({2, 3});
                         m["layout"] = 1;
                         return m;
                       }()),
              Code::kUnsupported, "sparse");

  // By name, in any order; defaults of each kind.
  const auto g =
      GraphOf(WithNode("aten.slice.Tensor", {In("step", {{"as_int", 2}}), In("self", T("x"))}, Meta({1, kS, 4})));
  const ir::Node& slice = NodeOf(g, "y");
  EXPECT_EQ(slice.args[1].int_value(), 0);
  EXPECT_TRUE(slice.args[2].is_none());
  EXPECT_EQ(slice.args[4].int_value(), 2);
  const auto g2 = GraphOf(WithNode("aten.contiguous.default", {In("self", T("x"))}, Meta({2, kS, 4})));
  EXPECT_EQ(NodeOf(g2, "y").args[1], ir::Arg::MemoryFormat("contiguous"));
  const auto g3 = GraphOf(
      WithNode("aten.mul.Tensor", {In("self", T("x")), In("other", {{"as_float", "-Infinity"}})}, Meta({2, kS, 4})));
  EXPECT_EQ(NodeOf(g3, "y").args[1].f, -INFINITY);
  // A single int for int[1], a device of a GPU export.
  const auto g4 = GraphOf(WithNode("aten.mean.dim", {In("self", T("x")), In("dim", {{"as_int", -1}})}, Meta({2, kS})));
  EXPECT_EQ(NodeOf(g4, "y").args[1].kind, ir::Arg::Kind::kIntList);
  const auto g5 =
      GraphOf(WithNode("aten.arange.default",
                       {In("end", {{"as_int", 4}}), In("device", {{"as_device", {{"type", "cuda"}, {"index", 1}}}})},
                       Meta({4}, testing::kFloat32, "cuda")));
  EXPECT_EQ(NodeOf(g5, "y").args[3], ir::Arg::Device("cpu"));
}

TEST(Import, MinusOneBecomesTheRecordedSize) {
  const auto minus_one = [](const std::string& op, const json& sizes, const json& meta) {
    return GraphOf(WithNode(op, {In("self", T("x")), In("size", sizes)}, meta));
  };
  EXPECT_EQ(
      NodeOf(minus_one("aten.view.default", {{"as_ints", {-1, 4}}}, Meta({"Mul(Integer(2), " + kS + ")", 4})), "y")
          .args[1]
          .ints[0]
          .ToString(),
      "mul(2, s0)");
  EXPECT_EQ(NodeOf(minus_one("aten.expand.default", {{"as_ints", {3, 2, -1, 4}}}, Meta({3, 2, kS, 4})), "y")
                .args[1]
                .ints[2]
                .ToString(),
            "s0");
  const auto g = GraphOf(WithNode("aten.reshape.default", {In("self", T("x")), In("shape", {{"as_ints", {-1}}})},
                                  Meta({"Mul(Integer(8), " + kS + ")"})));
  EXPECT_EQ(NodeOf(g, "y").args[1].ints[0].ToString(), "mul(8, s0)");
  const auto u = GraphOf(WithNode(
      "aten.unflatten.int", {In("self", T("x")), In("dim", {{"as_int", -1}}), In("sizes", {{"as_ints", {2, -1}}})},
      Meta({2, kS, 2, 2})));
  EXPECT_EQ(NodeOf(u, "y").args[2].ints[1].value(), 2);
}

TEST(Import, AssertsAreGone) {
  auto b = SmallModel();
  auto& nodes = b.graph()["nodes"];
  nodes.insert(nodes.begin(), MakeNode("aten._assert_tensor_metadata.default", {In("a", T("x"))}, {}, "check"));
  nodes.insert(nodes.begin(), MakeNode("aten._assert_async.msg", {In("a", T("x"))}, {}, "check2"));
  EXPECT_EQ(GraphOf(b).nodes().size(), 2u);
}

TEST(Import, TheLoss) {
  auto b = SmallModel();
  b.Node("aten.mean.default", {In("self", T("linear"))}, "aux", Meta({}));
  b.Output("aux");
  b.Output("linear");
  ExpectError(b, Code::kUsage, "several scalar outputs: loss, aux");
  ExpectError(b, Code::kBadInput, "no scalar output 'lost'", "m.pt2", {.loss = "lost"});
  ExpectError(b, Code::kBadInput, "no scalar output 'linear'", "m.pt2", {.loss = "linear"});
  const auto g = GraphOf(b, {.loss = "aux"});
  ASSERT_EQ(g.outputs.size(), 1u);
  EXPECT_EQ(g.outputs[0].name, "aux");
  EXPECT_EQ(g.FindValue("loss"), ir::kNoValue);  // what nobody asked for died

  Pt2Builder none;
  none.User("x", Meta({2, 3}));
  none.Node("aten.relu.default", {In("self", T("x"))}, "y", Meta({2, 3}));
  none.Output("y");
  ExpectError(none, Code::kBadInput, "no output is a scalar loss: y");
  none.output_specs() = json::array();
  ExpectError(none, Code::kBadInput, "no tensor output");
}

// The keys under which forward returns its outputs, as torch.export writes them for {"loss": …, "parts": (…, None)}.
TEST(Import, LoggedOutputs) {
  auto b = SmallModel();
  b.Node("aten.mean.default", {In("self", T("linear"))}, "aux", Meta({}));
  b.Output("aux");
  b.output_specs().push_back({{"user_output", {{"arg", {{"as_none", true}}}}}});
  b.Output("linear");
  const json leaf = {{"type", nullptr}, {"context", nullptr}, {"children_spec", json::array()}};
  const json parts = {{"type", "builtins.tuple"}, {"context", "null"}, {"children_spec", {leaf, leaf}}};
  const json root = {{"type", "builtins.dict"}, {"context", "[\"loss\", \"parts\", \"logits\"]"}, {"children_spec", {leaf, parts, leaf}}};
  b.program["graph_module"]["module_call_graph"] = {{{"fqn", ""}, {"signature", {{"out_spec", json::array({1, root}).dump()}}}}};
  for (const std::string name : {"aux", "parts.0"}) {
    const auto g = GraphOf(b, {.log_outputs = {name}});  // so that the other scalar is the loss
    ASSERT_EQ(g.outputs.size(), 2u);
    EXPECT_EQ(g.outputs[0].kind, ir::OutputKind::kLoss);
    EXPECT_EQ(g.outputs[0].name, "loss");
    EXPECT_EQ(g.outputs[1].kind, ir::OutputKind::kUser);
    EXPECT_EQ(g.outputs[1].name, name);
    EXPECT_EQ(g.value(g.outputs[1].value).name, "aux");
  }
  EXPECT_EQ(GraphOf(b, {.loss = "parts.0"}).outputs[0].name, "aux");
  ExpectError(b, Code::kUsage, "several scalar outputs: loss, parts.0");
  ExpectError(b, Code::kBadInput, "--log-output: the export has no output 'accuracy'", "m.pt2", {.loss = "loss", .log_outputs = {"accuracy"}});
  ExpectError(b, Code::kBadInput, "--log-output: 'logits' is no floating-point number", "m.pt2", {.loss = "loss", .log_outputs = {"logits"}});
  // A structure of another number of outputs is none to go by.
  b.program["graph_module"]["module_call_graph"][0]["signature"]["out_spec"] = json::array({1, leaf}).dump();
  ExpectError(b, Code::kBadInput, "has no output 'parts.0'", "m.pt2", {.loss = "loss", .log_outputs = {"parts.0"}});
}

TEST(Import, OtherOutputs) {
  auto b = SmallModel();
  b.Buffer("count", Meta({}), "weight_1", true).Data("weights/weight_1", std::string(4, '\0'));
  b.Node("aten.add.Tensor", {In("self", T("b_count")), In("other", {{"as_int", 1}})}, "next", Meta({}));
  b.output_specs().push_back({{"buffer_mutation", {{"arg", {{"name", "next"}}}, {"buffer_name", "count"}}}});
  const auto g = GraphOf(b);
  ASSERT_EQ(g.outputs.size(), 2u);
  EXPECT_EQ(g.outputs[1].kind, ir::OutputKind::kBufferUpdate);
  EXPECT_EQ(g.outputs[1].name, "count");

  b = SmallModel();
  b.output_specs().push_back({{"user_input_mutation", {{"arg", {{"name", "linear"}}}, {"user_input_name", "x"}}}});
  const auto model = b.Import();
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(model->graph.outputs.size(), 1u);
  EXPECT_NE(model->warnings.at(0).find("'x'"), std::string::npos);

  b = SmallModel();
  b.output_specs().push_back(
      {{"gradient_to_parameter", {{"arg", {{"name", "linear"}}}, {"parameter_name", "lin.weight"}}}});
  ExpectError(b, Code::kUnsupported, "joint export");
  b = SmallModel();
  b.output_specs().push_back(
      {{"parameter_mutation", {{"arg", {{"name", "linear"}}}, {"parameter_name", "lin.weight"}}}});
  ExpectError(b, Code::kUnsupported, "'lin.weight'");
  b = SmallModel();
  b.input_specs().push_back({{"custom_obj", {{"arg", {{"name", "o"}}}, {"custom_obj_name", "o"}}}});
  ExpectError(b, Code::kUnsupported, "script object");
}

TEST(Import, FrozenAndUnusedParameters) {
  auto b = SmallModel();
  b.Parameter("idle", Meta({2}), "weight_1", 0, false).Data("weights/weight_1", std::string(8, '\0'));
  b.Buffer("unused", Meta({2}), "weight_2", true).Data("weights/weight_2", std::string(8, '\0'));
  b.User("spare", Meta({3}));
  const auto model = b.Import();
  ASSERT_TRUE(model.ok()) << model.error().Format();
  std::vector<std::string> names;
  for (const auto& in : model->graph.inputs) names.push_back(in.name);
  EXPECT_EQ(names, (std::vector<std::string>{"lin.weight", "x", "idle", "spare"}));
  EXPECT_FALSE(model->graph.inputs[2].requires_grad);
  EXPECT_FALSE(model->weights.contains("unused"));
}

TEST(Import, ShapesThatDisagree) {
  auto b = SmallModel();
  b.weights["lin.weight"]["tensor_meta"]["sizes"][0]["as_int"] = 2;
  ExpectError(b, Code::kBadInput, "'lin.weight' is stored with another shape");
}

TEST(Source, Frames) {
  EXPECT_EQ(SourceOf("  File \"/a/b/net.py\", line 12, in forward\n    x\n  File \"torch/nn/modules/linear.py\", line "
                     "3, in forward")
                .Full(),
            "/a/b/net.py:12");
  EXPECT_EQ(
      SourceOf(
          "  File \"/a/b/net.py\", line 12, in forward\n    x\n  File \"/v/site-packages/torch/nn/f.py\", line 3, in f")
          .Short(),
      "net.py:12");
  EXPECT_EQ(SourceOf("  File \"a.py\", line 1, in f\n  File \"b.py\", line 2, in g").Short(), "b.py:2");
  EXPECT_EQ(SourceOf("  File \"torch/x.py\", line 1, in f").Short(), "x.py:1");
  EXPECT_EQ(SourceOf("  File \"<eval_with_key>.1\", line 1, in f").Short(), "");
  EXPECT_EQ(SourceOf("").Full(), "");
  EXPECT_EQ(SourceOf("File \"unended").Full(), "");
  EXPECT_EQ(ModuleOf("L__self__,,Net;L__self__layers.0,layers.0,Block"), "layers.0");
  EXPECT_EQ(ModuleOf("L__self__layers.0@1,layers.0@1,Block"), "layers.0");
  EXPECT_EQ(ModuleOf("_empty_nn_module_stack_from_metadata_hook,_empty_nn_module_stack_from_metadata_hook,_empty"), "");
  EXPECT_EQ(ModuleOf("nothing"), "");
}

}  // namespace
}  // namespace autospc::import
