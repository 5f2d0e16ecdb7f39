// Models by hand that hold every kind of thing that the reader of a .pt2 knows: to be broken in each place.
#pragma once

#include <string>
#include <vector>

#include "tests/import/pt2_builder.h"

namespace autospc::import::testing {

// Every kind of thing that the reader knows.
inline Pt2Builder RichModel() {
  Pt2Builder b = SmallModel();
  b.Buffer("table", Meta({8, 4}), "tensor_0", false).Data("constants/tensor_0", std::string(128, '\0'));
  b.graph()["sym_int_values"]["n"] = Size(kS);
  b.graph()["sym_float_values"]["f"] = {{"as_expr", {{"expr_str", "ToFloat(" + kS + ")"}}}};
  b.Node(
      "aten.view.default",
      {In("self", T("linear")), In("size", {{"as_sym_ints", {{{"as_int", 2}}, {{"as_name", "n"}}, {{"as_int", -1}}}}})},
      "v", Meta({2, kS, 4}));
  b.Node("aten.mul.Tensor", {In("self", T("v")), In("other", {{"as_sym_float", {{"as_name", "f"}}}})}, "m",
         Meta({2, kS, 4}));
  b.Node("aten.slice.Tensor",
         {In("self", T("b_table")), In("dim", {{"as_int", 0}}), In("end", {{"as_sym_int", {{"as_name", "n"}}}})},
         "rows", Meta({kS, 4}));
  b.Node("aten.arange.default", {In("end", {{"as_sym_int", {{"as_name", "n"}}}})}, "positions",
         Meta({kS}, kInt64));
  b.Node("aten.embedding.default", {In("weight", T("rows")), In("indices", T("positions"))}, "e", Meta({kS, 4}));
  b.Node("aten.add.Tensor", {In("self", T("m")), In("other", T("e"))}, "m2", Meta({2, kS, 4}));
  b.Node("aten.cat.default",
         {In("tensors", {{"as_tensors", {{{"name", "m2"}}, {{"name", "v"}}}}}), In("dim", {{"as_int", 2}})}, "c",
         Meta({2, kS, 8}));
  json body = MakeGraph();
  body["inputs"] = {T("arg"), {{"as_sym_int", {{"as_name", "k"}}}}};
  body["outputs"] = json::array({T("r")});
  body["nodes"] = {MakeNode("aten.relu.default", {In("self", T("arg"))}, {T("r")})};
  body["tensor_values"] = {{"arg", Meta({2, kS, 8})}, {"r", Meta({2, kS, 8})}};
  for (const bool autocast : {false, true}) {
    std::vector<json> inputs = {In("", {{"as_bool", false}})};
    if (autocast)
      inputs = {In("", {{"as_string", "cpu"}}), In("", {{"as_scalar_type", 13}}), In("", {{"as_bool", true}}),
                In("", {{"as_none", true}})};
    inputs.push_back(In("", {{"as_graph", {{"name", "g"}, {"graph", body}}}}));
    inputs.push_back(In("", T(autocast ? "r0" : "c")));
    inputs.push_back(In("", {{"as_sym_int", {{"as_name", "n"}}}}));
    const std::string result = autocast ? "r1" : "r0";
    b.graph()["nodes"].push_back(MakeNode(
        autocast ? "higher_order.wrap_with_autocast" : "higher_order.wrap_with_set_grad_enabled", inputs, {T(result)}));
    b.graph()["tensor_values"][result] = Meta({2, kS, 8});
  }
  b.Node("aten.sum.default", {In("self", T("r1"))}, "total", Meta({}));
  b.output_specs() = json::array();
  b.Output("total");
  b.output_specs().push_back({{"buffer_mutation", {{"arg", {{"name", "total"}}}, {"buffer_name", "table"}}}});
  return b;
}

// A layer of attention with a causal mask made of positions, and a loss with shifted labels: what the canonical passes look
// for.
inline Pt2Builder AttentionModel() {
  Pt2Builder b;
  b.program["range_constraints"]["s0"] = {{"min_val", 2}, {"max_val", 256}};
  b.graph()["sym_int_values"]["n"] = Size(kS);
  b.Parameter("wte.weight", Meta({16, 8}), "weight_0").Data("weights/weight_0", std::string(16 * 8 * 4, '\1'));
  b.User("input_ids", Meta({2, kS}, kInt64)).User("labels", Meta({2, kS}, kInt64));
  const json length = {{"as_sym_int", {{"as_name", "n"}}}};
  b.Node("aten.embedding.default", {In("weight", T("p_wte_weight")), In("indices", T("input_ids"))}, "e", Meta({2, kS, 8}));
  const json heads = {{"as_sym_ints", {{{"as_int", 2}}, {{"as_name", "n"}}, {{"as_int", 2}}, {{"as_int", 4}}}}};
  b.Node("aten.view.default", {In("self", T("e")), In("size", heads)}, "h", Meta({2, kS, 2, 4}));
  b.Node("aten.transpose.int", {In("self", T("h")), In("dim0", {{"as_int", 1}}), In("dim1", {{"as_int", 2}})}, "q", Meta({2, 2, kS, 4}));
  b.Node("aten.arange.default", {In("end", length)}, "rows", Meta({kS}, kInt64));
  b.Node("aten.unsqueeze.default", {In("self", T("rows")), In("dim", {{"as_int", 1}})}, "down", Meta({kS, 1}, kInt64));
  b.Node("aten.le.Tensor", {In("self", T("rows")), In("other", T("down"))}, "mask", Meta({kS, kS}, kBool));
  b.Node("aten.scaled_dot_product_attention.default",
         {In("query", T("q")), In("key", T("q")), In("value", T("q")), In("attn_mask", T("mask"))}, "a", Meta({2, 2, kS, 4}));
  b.Node("aten.transpose.int", {In("self", T("a")), In("dim0", {{"as_int", 1}}), In("dim1", {{"as_int", 2}})}, "back", Meta({2, kS, 2, 4}));
  const json wide = {{"as_ints", {-1, 8}}}, flat = {{"as_ints", {-1}}};
  b.Node("aten.reshape.default", {In("self", T("back")), In("shape", wide)}, "flat", Meta({"Mul(Integer(2), " + kS + ")", 8}));
  b.Node("aten.linear.default", {In("input", T("flat")), In("weight", T("p_wte_weight"))}, "logits", Meta({"Mul(Integer(2), " + kS + ")", 16}));
  b.Node("aten.pad.default", {In("self", T("labels")), In("pad", {{"as_ints", {0, 1}}}), In("mode", {{"as_string", "constant"}}), In("value", {{"as_float", -100.0}})},
         "padded", Meta({2, "Add(" + kS + ", Integer(1))"}, kInt64));
  b.Node("aten.slice.Tensor", {In("self", T("padded")), In("dim", {{"as_int", 1}}), In("start", {{"as_int", 1}}), In("end", {{"as_int", INT64_MAX}})},
         "next", Meta({2, kS}, kInt64));
  b.Node("aten.reshape.default", {In("self", T("next")), In("shape", flat)}, "targets", Meta({"Mul(Integer(2), " + kS + ")"}, kInt64));
  b.Node("aten.cross_entropy_loss.default", {In("self", T("logits")), In("target", T("targets"))}, "loss", Meta({}));
  b.Output("loss");
  return b;
}

}  // namespace autospc::import::testing
