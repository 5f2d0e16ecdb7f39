// One input a storage: ties, views, exports without weights.
#include <gtest/gtest.h>

#include "compiler/import/import.h"
#include "tests/import/pt2_builder.h"

namespace autospc::import {
namespace {

using testing::In;
using testing::json;
using testing::Meta;
using testing::Pt2Builder;
using testing::T;

// ids -> embedding(head.weight) in module `embed` -> linear(head.weight) -> sum, embed.weight unused, as exports have
// it.
Pt2Builder TiedModel(const std::string& head_member, int64_t head_offset = 0) {
  Pt2Builder b;
  b.Parameter("embed.weight", Meta({4, 4}), "weight_0", 0, false);
  b.Parameter("head.weight", Meta({4, 4}), head_member, head_offset);
  b.User("ids", Meta({2, 3}, testing::kInt64));
  b.Node("aten.embedding.default", {In("weight", T("p_head_weight")), In("indices", T("ids"))}, "e", Meta({2, 3, 4}));
  b.graph()["nodes"].back()["metadata"]["nn_module_stack"] =
      "L__self__,,Net;L__self__embed,embed,torch.nn.modules.sparse.Embedding";
  b.Node("aten.linear.default", {In("input", T("e")), In("weight", T("p_head_weight"))}, "l", Meta({2, 3, 4}));
  b.graph()["nodes"].back()["metadata"]["nn_module_stack"] =
      "L__self__,,Net;L__self__head,head,torch.nn.modules.linear.Linear";
  b.Node("aten.sum.default", {In("self", T("l"))}, "loss", Meta({}));
  b.Output("loss");
  return b;
}

std::vector<std::string> Names(const Model& m) {
  std::vector<std::string> names;
  for (const auto& in : m.graph.inputs) names.push_back(in.name);
  return names;
}

// Every use of the head reads the first name's value.
void ExpectTied(const Model& m) {
  EXPECT_EQ(Names(m), (std::vector<std::string>{"embed.weight", "ids"}));
  EXPECT_EQ(m.ties, (std::map<std::string, std::string>{{"head.weight", "embed.weight"}}));
  EXPECT_TRUE(m.graph.inputs[0].requires_grad);  // as any of its names
  for (const char* value : {"e", "l"}) {
    const auto operands = m.graph.producer(m.graph.FindValue(value))->Operands();
    EXPECT_NE(std::find(operands.begin(), operands.end(), m.graph.inputs[0].value), operands.end()) << value;
  }
}

TEST(Ties, OneStorageIsOneInput) {
  const auto model = TiedModel("weight_0").Data("weights/weight_0", std::string(64, '\0')).Import();
  ASSERT_TRUE(model.ok()) << model.error().Format();
  ExpectTied(*model);
  EXPECT_EQ(model->weights.size(), 1u);
  EXPECT_TRUE(model->weights.contains("embed.weight"));
}

// Two parts of one storage are two parameters.
TEST(Ties, ViewsOfOneStorage) {
  const auto model = TiedModel("weight_0", 16).Data("weights/weight_0", std::string(128, '\0')).Import();
  ASSERT_TRUE(model.ok()) << model.error().Format();
  EXPECT_TRUE(model->ties.empty());
  EXPECT_EQ(model->weights.at("head.weight").offset - model->weights.at("embed.weight").offset, 64);
  EXPECT_EQ(model->weights.at("head.weight").bytes, 64);
  EXPECT_EQ(model->weights.at("embed.weight").bytes, 128);
}

TEST(Ties, ATransposedViewKeepsItsStrides) {
  auto b = TiedModel("weight_0");
  auto& meta = b.weights["head.weight"]["tensor_meta"];
  std::swap(meta["strides"][0], meta["strides"][1]);
  std::string data(64, '\0');
  for (int i = 0; i < 16; ++i) data[4 * i] = static_cast<char>(i);
  const testing::TempFolder folder;
  b.Data("weights/weight_0", data);
  testing::WriteFile(folder / "m.pt2", testing::Zip(b.Members()));
  const auto model = ImportPt2(folder / "m.pt2");
  ASSERT_TRUE(model.ok()) << model.error().Format();
  EXPECT_TRUE(model->ties.empty());
  const auto bytes = ReadWeight(model->weights.at("head.weight"));
  ASSERT_TRUE(bytes.ok());
  EXPECT_EQ((*bytes)[4], 4);  // element [0, 1] of the view is [1, 0] of the storage
}

// An export without weights names one empty member for all: no tie by itself; the embedding's own module tells.
TEST(Ties, WithoutWeightsTheModuleTells) {
  const auto model = TiedModel("weight_0").Data("weights/weight_0", "").Import();
  ASSERT_TRUE(model.ok()) << model.error().Format();
  ExpectTied(*model);
  EXPECT_TRUE(model->weights.empty());
}

TEST(Ties, WithoutWeightsAnUnusedParameterIsNoTie) {
  auto b = TiedModel("weight_0").Data("weights/weight_0", "");
  b.graph()["nodes"][0]["metadata"]["nn_module_stack"] = "L__self__,,Net;L__self__head,head,Head";
  const auto model = b.Import();
  ASSERT_TRUE(model.ok());
  EXPECT_TRUE(model->ties.empty());
  EXPECT_EQ(Names(*model), (std::vector<std::string>{"embed.weight", "head.weight", "ids"}));
}

TEST(Ties, OnRequest) {
  auto b = TiedModel("weight_0").Data("weights/weight_0", "");
  b.graph()["nodes"][0]["metadata"]["nn_module_stack"] = "";
  auto model = b.Import();
  ASSERT_TRUE(model.ok());
  EXPECT_EQ(Tie(&*model, "head.weight", "nobody").error().code, Code::kBadInput);
  EXPECT_EQ(Tie(&*model, "head.weight", "ids").error().code, Code::kBadInput);
  ASSERT_TRUE(Tie(&*model, "head.weight", "embed.weight").ok());
  ExpectTied(*model);
}

TEST(Ties, DataThatNoCheckpointHolds) {
  auto b = TiedModel("weight_0").Data("weights/weight_0", "");
  b.Buffer("freq", Meta({4}), "tensor_0", false).Data("constants/tensor_0", "");
  EXPECT_TRUE(b.Import().ok());  // nobody uses it
  b.graph()["nodes"].insert(
      b.graph()["nodes"].begin() + 1,
      testing::MakeNode("aten.mul.Tensor", {In("self", T("e")), In("other", T("b_freq"))}, {T("f")}));
  b.graph()["tensor_values"]["f"] = Meta({2, 3, 4});
  b.graph()["nodes"][2]["inputs"][0]["arg"] = T("f");
  const auto model = b.Import();
  ASSERT_FALSE(model.ok());
  EXPECT_EQ(model.error().code, Code::kBadInput);
  EXPECT_NE(model.error().what.find("buffer 'freq'"), std::string::npos) << model.error().Format();
  EXPECT_NE(model.error().hint.find("FakeTensorMode"), std::string::npos);
  // In the state dict it comes from the checkpoint.
  b.constants.erase("freq");
  b.weights["freq"] = {
      {"path_name", "weight_0"}, {"is_param", false}, {"use_pickle", false}, {"tensor_meta", Meta({4})}};
  for (auto& spec : b.input_specs()) {
    if (spec.contains("buffer")) spec["buffer"]["persistent"] = true;
  }
  EXPECT_TRUE(b.Import().ok());
}

}  // namespace
}  // namespace autospc::import
