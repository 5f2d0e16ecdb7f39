// A row of tokens as a model's inputs: labels shifted or not, padding, masks, positions, layouts.
#include "runtime/data/contract.h"

#include <gtest/gtest.h>

#include "tests/data/batch.h"

namespace autospc::data {
namespace {

using Doubles = std::vector<double>;

Places PlacesIn(const Contract& contract, const Memory& memory) { return PlacesOf(contract, memory.views()).value(); }

TEST(FillRowTest, LabelsAsTheModelWantsThem) {
  for (Labels labels : {Labels::kUnshifted, Labels::kShifted}) {
    const Contract contract = Causal(2, 3, labels);
    const Memory memory(contract);
    const std::vector<int64_t> first = {5, 6, 7, 8}, second = {9, 10, 11, 12};
    const auto take = static_cast<size_t>(contract.tokens_a_row());
    ASSERT_EQ(take, labels == Labels::kShifted ? 4u : 3u);
    int64_t tokens = FillRow(contract, PlacesIn(contract, memory), 0, std::span(first).first(take));
    tokens += FillRow(contract, PlacesIn(contract, memory), 1, std::span(second).first(take));
    EXPECT_EQ(memory.Get("input_ids"), (Doubles{5, 6, 7, 9, 10, 11}));
    if (labels == Labels::kShifted) {
      EXPECT_EQ(memory.Get("labels"), (Doubles{6, 7, 8, 10, 11, 12}));
      EXPECT_EQ(tokens, 6);
    } else {
      EXPECT_EQ(memory.Get("labels"), (Doubles{5, 6, 7, 9, 10, 11}));
      EXPECT_EQ(tokens, 4);  // the model drops a row's first label
    }
  }
}

TEST(FillRowTest, AShortRowIsPaddedWithIgnoredLabels) {
  Contract contract = Causal(1, 6, Labels::kShifted, -1);
  contract.inputs.push_back(Spec("attention_mask", Role::kMask, {1, 6}, DType::Bool));
  contract.inputs.push_back(Spec("position_ids", Role::kPositions, {1, 6}));
  contract.inputs.push_back(Spec("token_type_ids", Role::kTokenTypes, {1, 6}, DType::Int32));
  const Memory memory(contract);
  const std::vector<int64_t> tokens = {5, 6, 7, 8};
  EXPECT_EQ(FillRow(contract, PlacesIn(contract, memory), 0, tokens), 3);
  EXPECT_EQ(memory.Get("input_ids"), (Doubles{5, 6, 7, 8, 0, 0}));
  EXPECT_EQ(memory.Get("labels"), (Doubles{6, 7, 8, -1, -1, -1}));  // the last token's target is not there
  EXPECT_EQ(memory.Get("attention_mask"), (Doubles{1, 1, 1, 1, 0, 0}));
  EXPECT_EQ(memory.Get("position_ids"), (Doubles{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(memory.Get("token_type_ids"), (Doubles{0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(FillRow(contract, PlacesIn(contract, memory), 0, {}), 0);  // an empty row
  EXPECT_EQ(memory.Get("labels"), (Doubles{-1, -1, -1, -1, -1, -1}));
}

TEST(FillRowTest, LayoutsAndTypes) {
  Contract contract;
  contract.inputs = {Spec("x", Role::kTokens, {3, 2}, DType::Int32),
                     Spec("mask", Role::kMask, {3, 2}, DType::BFloat16)};
  for (InputSpec& input : contract.inputs) input.seq_dim = 0;  // [sequence, batch]
  const Memory memory(contract);
  EXPECT_EQ(contract.rows(), 2);
  EXPECT_EQ(contract.length(), 3);
  EXPECT_EQ(FillRow(contract, PlacesIn(contract, memory), 0, std::vector<int64_t>{1, 2, 3}),
            3);  // positions: no labels
  EXPECT_EQ(FillRow(contract, PlacesIn(contract, memory), 1, std::vector<int64_t>{4, 5}), 2);
  EXPECT_EQ(memory.Get("x"), (Doubles{1, 4, 2, 5, 3, 0}));
  EXPECT_EQ(memory.Get("mask"), (Doubles{1, 1, 1, 1, 1, 0}));
}

TEST(FillRowTest, LeavesAloneWhatTheRankDoesNotRead) {
  Contract contract = Causal(2, 4, Labels::kShifted);
  contract.inputs.push_back(Spec("features", Role::kOther, {2, 4}));
  const Memory memory(contract);
  Places places = PlacesIn(contract, memory);
  places[0].slice = {1, 2, 2, 4};  // the second half of the second row
  const std::vector<int64_t> tokens = {1, 2, 3, 4, 5};
  EXPECT_EQ(FillRow(contract, places, 0, tokens) + FillRow(contract, places, 1, tokens),
            8);  // labels are counted all the same
  const double untouched = memory.Get("features")[0];
  EXPECT_EQ(memory.Get("features"), Doubles(8, untouched));
  EXPECT_EQ(memory.Get("input_ids"), (Doubles{untouched, untouched, untouched, untouched, untouched, untouched, 3, 4}));
  EXPECT_EQ(memory.Get("labels"), (Doubles{2, 3, 4, 5, 2, 3, 4, 5}));
}

TEST(FillRowTest, ATokenThatIsTheIgnoredLabelIsNotCounted) {
  const Contract contract = Causal(1, 3, Labels::kShifted, 0);
  const Memory memory(contract);
  EXPECT_EQ(FillRow(contract, PlacesIn(contract, memory), 0, std::vector<int64_t>{5, 0, 7, 8}), 2);
}

TEST(CountTokensTest, OfAWholeBatch) {
  for (Labels labels : {Labels::kUnshifted, Labels::kShifted}) {
    const Contract contract = Causal(2, 4, labels);
    const Memory memory(contract);
    const Places places = PlacesIn(contract, memory);
    int64_t filled = 0;
    for (int64_t row = 0; row < 2; ++row) filled += FillRow(contract, places, row, std::vector<int64_t>{1, 2, 3});
    EXPECT_EQ(CountTokens(contract, places), filled);
    EXPECT_EQ(filled, 4);
  }
  Contract ids;
  ids.inputs = {Spec("x", Role::kTokens, {2, 4})};
  const Memory memory(ids);
  EXPECT_EQ(CountTokens(ids, PlacesIn(ids, memory)), 8);
}

TEST(CheckFillableTest, NamesWhatATokenFileCannotFill) {
  const auto refusal = [](const Contract& contract) {
    const Status status = CheckFillable(contract, "package");
    EXPECT_FALSE(status.ok());
    return status.ok() ? "" : status.error().Format();
  };
  EXPECT_TRUE(CheckFillable(Causal(2, 3, Labels::kShifted), "package").ok());
  EXPECT_NE(refusal(Causal(2, 3, Labels::kUnknown)).find("--labels"), std::string::npos);
  Contract other = Causal(2, 3, Labels::kShifted);
  other.inputs.push_back(Spec("pixel_values", Role::kOther, {2, 3}, DType::Float32));
  EXPECT_NE(refusal(other).find("'pixel_values'"), std::string::npos);
  Contract longer = Causal(2, 3, Labels::kShifted);
  longer.inputs[1].sizes = {2, 4};
  EXPECT_NE(refusal(longer).find("'labels' is [2, 4]"), std::string::npos);
  Contract twice = Causal(2, 3, Labels::kShifted);
  twice.inputs.push_back(Spec("decoder_input_ids", Role::kTokens, {2, 3}));
  EXPECT_NE(refusal(twice).find("'decoder_input_ids'"), std::string::npos);
  Contract none;
  none.inputs = {Spec("labels", Role::kLabels, {2, 3})};
  EXPECT_NE(refusal(none).find("token ids"), std::string::npos);
}

}  // namespace
}  // namespace autospc::data
