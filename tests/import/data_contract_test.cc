// What the models of this project ask of their data, read off their exports; and graphs that say it in other ways.
#include "compiler/import/data_contract.h"

#include <gtest/gtest.h>

#include <tuple>

#include "compiler/import/import.h"
#include "passes/ir/parser.h"

namespace autospc::import {
namespace {

DataContract OfModel(const std::string& name) {
  Result<Model> model = ImportPt2(std::string(AUTOSPC_SOURCE_DIR "/models/") + name + "/" + name + ".pt2");
  EXPECT_TRUE(model.ok()) << model.error().Format();
  const auto bound = BindSizes(&*model, {.seq_len = 61, .batch = 2});
  EXPECT_TRUE(bound.ok()) << bound.error().Format();
  return FindDataContract(model->graph);
}

TEST(DataContractTest, OfTheModels) {
  using Shift = LabelShift;
  for (const auto& [name, shift, ignore] : {std::tuple{"gpt", Shift::kByData, -1},
                                            {"llama", Shift::kByModel, -100},
                                            {"encoder", Shift::kByData, -100},
                                            {"window", Shift::kByData, -100},
                                            {"shifted", Shift::kByModel, -100},
                                            {"padded", Shift::kByData, -100},
                                            {"frozen", Shift::kByData, -100},
                                            {"batched", Shift::kByData, -100}}) {
    SCOPED_TRACE(name);
    const DataContract contract = OfModel(name);
    EXPECT_EQ(contract.shift, shift);
    EXPECT_EQ(contract.ignore_index, ignore);
    for (const InputContract& input : contract.inputs) {
      SCOPED_TRACE(input.name);
      const InputRole role = input.name == "input_ids" ? InputRole::kTokens
                             : input.name == "labels"  ? InputRole::kLabels
                                                       : InputRole::kMask;
      EXPECT_EQ(input.role, role);
      EXPECT_EQ(input.limit, role == InputRole::kMask ? 0 : 64);
    }
  }
  EXPECT_EQ(OfModel("padded").inputs.size(), 3u);
}

DataContract OfText(const std::string& text) {
  auto graph = ir::Parse(text);
  EXPECT_TRUE(graph.ok()) << graph.error().Format();
  return FindDataContract(*graph);
}

constexpr char kStart[] = R"(graph @model {
  input %table : f32[50, 8] parameter "table" grad
  input %rows : f32[32, 8] parameter "rows" grad
  input %ids : i64[2, 16] user "ids" seq_dim 1
)";

TEST(DataContractTest, TokensThatAreTheTargetsThemselves) {
  const DataContract contract = OfText(std::string(kStart) + R"(
  %x = aten.embedding.default(%table, %ids, -1, false, false) : f32[2, 16, 8]
  %logits = aten.slice.Tensor(%x, 1, 0, -1, 1) : f32[2, 15, 8]
  %flat = aten.reshape.default(%logits, [30, 8]) : f32[30, 8]
  %next = aten.slice.Tensor(%ids, 1, 1, 9223372036854775807, 1) : i64[2, 15]
  %target = aten.reshape.default(%next, [30]) : i64[30]
  %loss = aten.cross_entropy_loss.default(%flat, %target, none, 1, -100, 0.0) : f32[]
  output loss %loss "loss"
})");
  ASSERT_EQ(contract.inputs.size(), 1u);
  EXPECT_EQ(contract.inputs[0].role, InputRole::kTokens);
  EXPECT_EQ(contract.inputs[0].limit, 50);
  EXPECT_EQ(contract.ignore_index, std::nullopt);  // no label can be ignored that is a token too
}

TEST(DataContractTest, PositionsAndSegmentsByNameAndTargetsByGather) {
  const DataContract contract = OfText(std::string(kStart) + R"(
  input %position_ids : i64[2, 16] user "position_ids" seq_dim 1
  input %token_type_ids : i64[2, 16] user "token_type_ids" seq_dim 1
  input %y : i64[2, 16] user "y" seq_dim 1
  input %features : f32[2, 16] user "features" seq_dim 1
  %x = aten.embedding.default(%table, %ids, -1, false, false) : f32[2, 16, 8]
  %p = aten.embedding.default(%rows, %position_ids, -1, false, false) : f32[2, 16, 8]
  %t = aten.embedding.default(%rows, %token_type_ids, -1, false, false) : f32[2, 16, 8]
  %xp = aten.add.Tensor(%x, %p, 1) : f32[2, 16, 8]
  %xpt = aten.add.Tensor(%xp, %t, 1) : f32[2, 16, 8]
  %log = aten.log_softmax.int(%xpt, -1, none) : f32[2, 16, 8]
  %moved = aten.roll.default(%y, [-1], [1]) : i64[2, 16]
  %index = aten.unsqueeze.default(%moved, -1) : i64[2, 16, 1]
  %picked = aten.gather.default(%log, -1, %index, false) : f32[2, 16, 1]
  %mean = aten.mean.default(%picked, none) : f32[]
  %loss = aten.neg.default(%mean) : f32[]
  output loss %loss "loss"
})");
  ASSERT_EQ(contract.inputs.size(), 5u);
  EXPECT_EQ(contract.inputs[0].role, InputRole::kTokens);
  EXPECT_EQ(contract.inputs[1].role, InputRole::kPositions);
  EXPECT_EQ(contract.inputs[1].limit, 32);
  EXPECT_EQ(contract.inputs[2].role, InputRole::kTokenTypes);
  EXPECT_EQ(contract.inputs[3].role, InputRole::kLabels);
  EXPECT_EQ(contract.inputs[3].limit, 8);
  EXPECT_EQ(contract.inputs[4].role, InputRole::kOther);
  EXPECT_EQ(contract.shift, LabelShift::kByModel);
  EXPECT_EQ(contract.ignore_index, std::nullopt);
}

TEST(DataContractTest, MasksThatSayItTheOtherWayAreNotGuessed) {
  const DataContract contract = OfText(std::string(kStart) + R"(
  input %attention_mask : bool[2, 16] user "attention_mask" seq_dim 1
  input %additive : f32[2, 16] user "mask" seq_dim 1
  input %inverse : bool[2, 16] user "key_padding_mask" seq_dim 1
  %x = aten.embedding.default(%table, %ids, -1, false, false) : f32[2, 16, 8]
  %loss = aten.mean.default(%x, none) : f32[]
  output loss %loss "loss"
})");
  ASSERT_EQ(contract.inputs.size(), 4u);
  EXPECT_EQ(contract.inputs[1].role, InputRole::kMask);
  EXPECT_EQ(contract.inputs[2].role, InputRole::kOther);
  EXPECT_EQ(contract.inputs[3].role, InputRole::kOther);
}

TEST(DataContractTest, NoTargetThatIsKnown) {
  const DataContract contract = OfText(std::string(kStart) + R"(
  %x = aten.embedding.default(%table, %ids, -1, false, false) : f32[2, 16, 8]
  %loss = aten.mean.default(%x, none) : f32[]
  output loss %loss "loss"
})");
  EXPECT_EQ(contract.shift, LabelShift::kUnknown);
}

}  // namespace
}  // namespace autospc::import
