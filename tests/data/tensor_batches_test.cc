// Batches from safetensors files: rows as samples, what is derived from the tokens, padding, and what is refused.
#include "runtime/data/tensor_batches.h"

#include <gtest/gtest.h>

#include "tests/data/batch.h"
#include "tests/data/tensor_files.h"
#include "tests/package/temp_folder.h"

namespace autospc::data {
namespace {

using Doubles = std::vector<double>;

std::unique_ptr<TensorBatches> OpenTensors(const Contract& contract, const std::vector<std::string>& files,
                                      OrderOptions order = {.shuffle = false}) {
  auto source = TensorBatches::Open(contract, files, order, /*scan=*/true);
  EXPECT_TRUE(source.ok()) << source.error().Format();
  return source.ok() ? std::move(source).value() : nullptr;
}

TEST(TensorBatchesTest, RowsOfSeveralFilesAreSamples) {
  TempFolder folder;
  Spill(folder / "a.safetensors",
        Tensors({{"input_ids", {3, 2}, {1, 2, 3, 4, 5, 6}}, {"labels", {3, 2}, {2, 3, 4, 5, 6, -100}}}));
  Spill(folder / "b.safetensors",
        Tensors({{"in.input_ids", {1, 2}, {7, 8}}, {"in.labels", {1, 2}, {8, 9}}, {"loss", {}, {1}}}));
  const Contract contract = Causal(2, 2, Labels::kShifted);
  auto source = OpenTensors(contract, {folder / "a.safetensors", folder / "b.safetensors"});
  ASSERT_EQ(source->samples(), 4);
  const Memory memory(contract);
  EXPECT_EQ(source->Next(memory.views())->tokens, 4);
  EXPECT_EQ(memory.Get("input_ids"), (Doubles{1, 2, 3, 4}));
  EXPECT_EQ(source->Next(memory.views())->tokens, 3);  // one label is ignored
  EXPECT_EQ(memory.Get("input_ids"), (Doubles{5, 6, 7, 8}));
  EXPECT_EQ(memory.Get("labels"), (Doubles{6, -100, 8, 9}));
  EXPECT_EQ(source->position(), (DataPosition{1, 0, 0}));
}

TEST(TensorBatchesTest, ShortRowsArePadded) {
  TempFolder folder;
  Spill(folder / "a.safetensors", Tensors({{"input_ids", {1, 3}, {1, 2, 3}}, {"labels", {1, 3}, {2, 3, 4}}}));
  Contract contract = Causal(1, 5, Labels::kShifted);
  contract.inputs.push_back(Spec("attention_mask", Role::kMask, {1, 5}));
  contract.inputs.push_back(Spec("position_ids", Role::kPositions, {1, 5}));
  auto source = OpenTensors(contract, {folder / "a.safetensors"});
  const Memory memory(contract);
  EXPECT_EQ(source->Next(memory.views())->tokens, 3);
  EXPECT_EQ(memory.Get("input_ids"), (Doubles{1, 2, 3, 0, 0}));
  EXPECT_EQ(memory.Get("labels"), (Doubles{2, 3, 4, -100, -100}));
  EXPECT_EQ(memory.Get("attention_mask"), (Doubles{1, 1, 1, 0, 0}));
  EXPECT_EQ(memory.Get("position_ids"), (Doubles{0, 1, 2, 3, 4}));
}

TEST(TensorBatchesTest, LabelsOfTheTokensWhereThereAreNone) {
  TempFolder folder;
  Spill(folder / "a.safetensors", Tensors({{"input_ids", {1, 4}, {1, 2, 3, 4}}}));
  const auto labels = [&](const Contract& contract) {
    const Memory memory(contract);
    auto source = OpenTensors(contract, {folder / "a.safetensors"});
    EXPECT_TRUE(source->Next(memory.views()).ok());
    return memory.Get("labels");
  };
  EXPECT_EQ(labels(Causal(1, 4, Labels::kUnshifted)), (Doubles{1, 2, 3, 4}));
  EXPECT_EQ(labels(Causal(1, 4, Labels::kShifted)), (Doubles{2, 3, 4, -100}));
  EXPECT_EQ(labels(Causal(1, 3, Labels::kShifted)), (Doubles{2, 3, 4}));  // a token more than positions is enough
}

TEST(TensorBatchesTest, OtherInputsLayoutsAndTypes) {
  TempFolder folder;
  // Features [batch, channels, sequence] of float64 for a bfloat16 input, and a scalar for the whole batch.
  Spill(folder / "a.safetensors", Tensors({{"x", {2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}, DType::Float64},
                                           {"y", {2, 2}, {10, 20, 30, 40}, DType::Int32},
                                           {"scale", {}, {0.5}, DType::Float32}}));
  Contract contract;
  contract.inputs = {Spec("x", Role::kOther, {2, 2, 3}, DType::BFloat16), Spec("y", Role::kLabels, {3, 2}),
                     Spec("scale", Role::kOther, {}, DType::Float32)};
  contract.inputs[1].seq_dim = 0;  // [sequence, batch]
  contract.ignore_index = -1;
  contract.labels = Labels::kShifted;
  auto source = OpenTensors(contract, {folder / "a.safetensors"});
  ASSERT_EQ(source->samples(), 2);
  const Memory memory(contract);
  EXPECT_EQ(source->Next(memory.views())->tokens, 4);
  EXPECT_EQ(memory.Get("x"), (Doubles{1, 2, 0, 3, 4, 0, 5, 6, 0, 7, 8, 0}));
  EXPECT_EQ(memory.Get("y"), (Doubles{10, 20, 30, 40, -1, -1}));
  EXPECT_EQ(memory.Get("scale"), (Doubles{0.5}));
}

TEST(TensorBatchesTest, SaysWhatIsWrong) {
  TempFolder folder;
  const auto refusal = [&](const Contract& contract, const std::vector<TestTensor>& tensors) {
    Spill(folder / "a.safetensors", Tensors(tensors));
    const auto source = TensorBatches::Open(contract, {folder / "a.safetensors"}, {}, /*scan=*/true);
    EXPECT_FALSE(source.ok());
    if (source.ok()) return std::string();
    EXPECT_EQ(source.error().code, Code::kBadInput);
    EXPECT_EQ(source.error().where, folder / "a.safetensors");
    return source.error().Format();
  };
  const auto has = [](const std::string& text, const char* part) { return text.find(part) != std::string::npos; };
  const Contract causal = Causal(1, 2, Labels::kShifted), strict = Causal(1, 3, Labels::kShifted, std::nullopt);
  const TestTensor ids = {"input_ids", {1, 2}, {1, 2}}, labels = {"labels", {1, 2}, {2, 3}};
  EXPECT_TRUE(has(refusal(causal, {labels}), "lacks the model's input 'input_ids'"));
  EXPECT_TRUE(has(refusal(Causal(1, 2, Labels::kUnknown), {ids}), "--labels"));
  EXPECT_TRUE(
      has(refusal(causal, {{"input_ids", {1, 2}, {1, 2}, DType::Float32}, labels}), "the types do not convert"));
  EXPECT_TRUE(has(refusal(causal, {{"input_ids", {2}, {1, 2}}, labels}), "another number of dims"));
  EXPECT_TRUE(has(refusal(causal, {{"input_ids", {1, 3}, {1, 2, 3}}, labels}), "longer than the package's"));
  EXPECT_TRUE(has(refusal(causal, {ids, {"labels", {2, 2}, {1, 2, 3, 4}}}), "another number of rows"));
  EXPECT_TRUE(has(refusal(causal, {{"input_ids", {0, 2}, {}}, {"labels", {0, 2}, {}}}), "it has no row"));
  EXPECT_TRUE(
      has(refusal(Causal(1, 3, Labels::kShifted), {ids, {"labels", {1, 3}, {1, 2, 3}}}), "and the tokens have 2"));
  EXPECT_TRUE(has(refusal(strict, {ids, labels}), "can ignore no padding"));
  EXPECT_TRUE(has(refusal(causal, {{"input_ids", {1, 2}, {1, 1000}}, labels}), "holds 1000 at row 0, position 1"));
  EXPECT_TRUE(has(refusal(causal, {ids, {"labels", {1, 2}, {2, -7}}}), "'labels' holds -7"));
  Contract other = causal;
  other.inputs.push_back(Spec("pixel_values", Role::kOther, {1, 2}, DType::Float32));
  EXPECT_TRUE(has(refusal(other, {ids, labels}), "'pixel_values'"));
  Contract features;
  features.inputs = {Spec("x", Role::kOther, {1, 2, 4}, DType::Float32)};
  EXPECT_TRUE(
      has(refusal(features, {{"x", {1, 3, 4}, std::vector<double>(12, 0), DType::Float32}}), "another size beside"));
  Spill(folder / "b.safetensors", "no such file");
  EXPECT_FALSE(TensorBatches::Open(causal, {folder / "b.safetensors"}, {}, true).ok());
}

TEST(TensorBatchesTest, OnePassPadsWhereRowsCanBeEmpty) {
  TempFolder folder;
  Spill(folder / "a.safetensors",
        Tensors({{"input_ids", {3, 2}, {1, 2, 3, 4, 5, 6}}, {"labels", {3, 2}, {2, 3, 4, 5, 6, 7}}}));
  const Contract contract = Causal(2, 2, Labels::kShifted);
  auto source = OpenTensors(contract, {folder / "a.safetensors"}, {.shuffle = false, .once = true});
  const Memory memory(contract);
  EXPECT_EQ(source->Next(memory.views())->tokens, 4);
  EXPECT_EQ(source->Next(memory.views())->tokens, 2);
  EXPECT_EQ(memory.Get("labels"), (Doubles{6, 7, -100, -100}));
  EXPECT_TRUE(source->Next(memory.views())->end);
}

}  // namespace
}  // namespace autospc::data
