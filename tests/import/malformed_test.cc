// A model's JSON with anything missing or of another type: an error that says where, or (where it does not matter) a
// model, and never a crash.
#include <gtest/gtest.h>

#include <random>

#include "compiler/import/import.h"
#include "tests/import/pt2_builder.h"

namespace autospc::import {
namespace {

using testing::In;
using testing::json;
using testing::kS;
using testing::MakeNode;
using testing::Meta;
using testing::Pt2Builder;
using testing::T;

// Every kind of thing that the reader knows.
Pt2Builder RichModel() {
  Pt2Builder b = testing::SmallModel();
  b.Buffer("table", Meta({8, 4}), "tensor_0", false).Data("constants/tensor_0", std::string(128, '\0'));
  b.graph()["sym_int_values"]["n"] = testing::Size(kS);
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
         Meta({kS}, testing::kInt64));
  b.Node("aten.embedding.default", {In("weight", T("rows")), In("indices", T("positions"))}, "e", Meta({kS, 4}));
  b.Node("aten.add.Tensor", {In("self", T("m")), In("other", T("e"))}, "m2", Meta({2, kS, 4}));
  b.Node("aten.cat.default",
         {In("tensors", {{"as_tensors", {{{"name", "m2"}}, {{"name", "v"}}}}}), In("dim", {{"as_int", 2}})}, "c",
         Meta({2, kS, 8}));
  json body = testing::MakeGraph();
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

void Collect(const json& v, const json::json_pointer& at, std::vector<json::json_pointer>* out) {
  out->push_back(at);
  if (v.is_object()) {
    for (const auto& [key, item] : v.items()) Collect(item, at / key, out);
  } else if (v.is_array()) {
    for (size_t i = 0; i < v.size(); ++i) Collect(v[i], at / i, out);
  }
}

void Try(const Pt2Builder& b, const std::string& what) {
  auto model = b.Import();
  if (model.ok()) {
    Bindings flags;
    flags.seq_len = 8;
    const auto bound = BindSizes(&*model, flags);
    if (!bound.ok()) EXPECT_FALSE(bound.error().what.empty()) << what;
    return;
  }
  const Error& e = model.error();
  EXPECT_TRUE(e.code == Code::kBadInput || e.code == Code::kUnsupported || e.code == Code::kUsage) << what << "\n"
                                                                                                   << e.Format();
  EXPECT_NE(e.where.find("m.pt2"), std::string::npos) << what << "\n" << e.Format();
}

TEST(MalformedModel, TheModelIsSound) {
  auto model = RichModel().Import();
  ASSERT_TRUE(model.ok()) << model.error().Format();
  Bindings flags;
  flags.seq_len = 8;
  const auto bound = BindSizes(&*model, flags);
  ASSERT_TRUE(bound.ok()) << bound.error().Format();
}

class Malformed : public ::testing::TestWithParam<const char*> {};

TEST_P(Malformed, EveryPlaceInTurn) {
  const Pt2Builder good = RichModel();
  std::vector<json::json_pointer> places;
  Collect(good.program, json::json_pointer(), &places);
  ASSERT_GT(places.size(), 500u);
  const std::string how = GetParam();
  // Every place goes missing; of the other ways each place meets one in five, else this takes too long.
  const size_t fifth = std::hash<std::string>()(how) % 5;
  for (size_t i = 0; i < places.size(); ++i) {
    const json::json_pointer& place = places[i];
    if (place.empty() || (how != "missing" && i % 5 != fifth)) continue;
    Pt2Builder bad = good;
    json& parent = bad.program[place.parent_pointer()];
    if (how == "missing") {
      if (parent.is_array())
        parent.erase(std::stoul(place.back()));
      else
        parent.erase(place.back());
    } else {
      bad.program[place] = json::parse(how);
    }
    Try(bad, how + " at " + place.to_string());
  }
}

std::string NameOf(size_t way) {
  constexpr const char* kNames[] = {"Missing", "Null", "Negative", "Text", "Array", "Object", "Huge"};
  return kNames[way];
}

INSTANTIATE_TEST_SUITE_P(Ways, Malformed,
                         ::testing::Values("missing", "null", "-3", "\"text\"", "[]", "{}", "9223372036854775807"),
                         [](const auto& info) { return NameOf(info.index); });

// Configs of weights and constants, in the same way.
TEST(MalformedModel, Configs) {
  const Pt2Builder good = RichModel();
  for (const char* how : {"null", "-3", "\"text\"", "[]", "{}", "9223372036854775807"}) {
    for (json Pt2Builder::*config : {&Pt2Builder::weights, &Pt2Builder::constants}) {
      std::vector<json::json_pointer> places;
      Collect(good.*config, json::json_pointer(), &places);
      for (const json::json_pointer& place : places) {
        Pt2Builder bad = good;
        (bad.*config)[place] = json::parse(how);
        Try(bad, std::string(how) + " at " + place.to_string());
      }
    }
  }
}

// Bytes of the whole file changed at random (seeded).
TEST(MalformedModel, RandomBytes) {
  const std::string good = testing::Zip(RichModel().Members());
  std::mt19937 random(7);
  const testing::TempFolder folder;
  for (int i = 0; i < 300; ++i) {
    std::string bad = good;
    for (int k = 0; k < 1 + i % 4; ++k) bad[random() % bad.size()] = static_cast<char>(random());
    testing::WriteFile(folder / "m.pt2", bad);
    const auto model = ImportPt2(folder / "m.pt2");
    if (!model.ok()) EXPECT_FALSE(model.error().what.empty());
  }
}

}  // namespace
}  // namespace autospc::import
