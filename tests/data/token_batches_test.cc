// Samples of token files in steps: which, in which order, across files and epochs, and continued from a position.
#include "runtime/data/token_batches.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/data/batch.h"
#include "tests/data/token_files.h"
#include "tests/package/temp_folder.h"

namespace autospc::data {
namespace {

using Doubles = std::vector<double>;

std::unique_ptr<TokenBatches> OpenOk(const Contract& contract, const std::vector<std::string>& files,
                                     const OrderOptions& order) {
  auto source = TokenBatches::Open(contract, files, std::nullopt, order, /*scan=*/true, "package");
  EXPECT_TRUE(source.ok()) << source.error().Format();
  return source.ok() ? std::move(source).value() : nullptr;
}

std::string Spilled(const TempFolder& folder, const std::string& name, const std::vector<int64_t>& tokens) {
  Spill(folder / name, TokenBytes(TokenType::kUInt16, tokens));
  return folder / name;
}

TEST(TokenBatchesTest, ShiftedLabelsNeedOneTokenMore) {
  TempFolder folder;
  const std::string file = Spilled(folder, "a", Count(0, 9));
  const Contract contract = Causal(2, 4, Labels::kShifted);
  auto source = OpenOk(contract, {file}, {.shuffle = false});
  EXPECT_EQ(source->samples(), 2);
  const Memory memory(contract);
  EXPECT_EQ(source->Next(memory.views())->tokens, 8);
  EXPECT_EQ(memory.Get("input_ids"), (Doubles{0, 1, 2, 3, 4, 5, 6, 7}));
  EXPECT_EQ(memory.Get("labels"), (Doubles{1, 2, 3, 4, 5, 6, 7, 8}));
  EXPECT_EQ(OpenOk(contract, {Spilled(folder, "b", Count(0, 8))}, {})->samples(), 1);
  EXPECT_EQ(OpenOk(Causal(2, 4, Labels::kUnshifted), {folder / "b"}, {})->samples(), 2);
}

TEST(TokenBatchesTest, SeveralFilesAndEpochs) {
  TempFolder folder;
  const Contract contract = Causal(2, 3, Labels::kUnshifted);
  // Two, one and two samples; a file's rest is left out.
  auto source = OpenOk(
      contract,
      {Spilled(folder, "a", Count(0, 8)), Spilled(folder, "b", Count(100, 3)), Spilled(folder, "c", Count(200, 6))},
      {.shuffle = false});
  ASSERT_EQ(source->samples(), 5);
  const Memory memory(contract);
  Doubles firsts;
  for (int step = 0; step < 5; ++step) {
    ASSERT_TRUE(source->Next(memory.views()).ok());
    const Doubles ids = memory.Get("input_ids");
    firsts.push_back(ids[0]);
    firsts.push_back(ids[3]);
  }
  EXPECT_EQ(firsts, (Doubles{0, 3, 100, 200, 203, 0, 3, 100, 200, 203}));
  EXPECT_EQ(source->position(), (DataPosition{2, 0, 0}));
}

TEST(TokenBatchesTest, ShuffledEpochsHoldEachSampleOnceAndDiffer) {
  TempFolder folder;
  const std::string file = Spilled(folder, "a", Count(0, 64));
  const Contract contract = Causal(3, 2, Labels::kUnshifted);
  auto source = OpenOk(contract, {file}, {.shuffle = true, .seed = 5});
  ASSERT_EQ(source->samples(), 32);
  const Memory memory(contract);
  std::vector<double> order;
  while (order.size() < 96) {  // three epochs, whose ends lie within batches
    ASSERT_TRUE(source->Next(memory.views()).ok());
    const Doubles ids = memory.Get("input_ids");
    order.insert(order.end(), {ids[0], ids[2], ids[4]});
  }
  const Doubles first(order.begin(), order.begin() + 32), second(order.begin() + 32, order.begin() + 64);
  EXPECT_EQ(std::set<double>(first.begin(), first.end()).size(), 32u);
  EXPECT_EQ(std::set<double>(second.begin(), second.end()).size(), 32u);
  EXPECT_NE(first, second);
  auto again = OpenOk(contract, {file}, {.shuffle = true, .seed = 5}),
       other = OpenOk(contract, {file}, {.shuffle = true, .seed = 6});
  ASSERT_TRUE(again->Next(memory.views()).ok());
  EXPECT_EQ(memory.Get("input_ids")[0], order[0]);
  EXPECT_EQ(memory.Get("input_ids")[4], order[2]);
  ASSERT_TRUE(other->Next(memory.views()).ok());
  EXPECT_NE((Doubles{memory.Get("input_ids")[0], memory.Get("input_ids")[2], memory.Get("input_ids")[4]}),
            Doubles(order.begin(), order.begin() + 3));
}

TEST(TokenBatchesTest, GoesOnFromAPosition) {
  TempFolder folder;
  const std::string file = Spilled(folder, "a", Count(0, 50));
  const Contract contract = Causal(3, 2, Labels::kUnshifted);
  auto source = OpenOk(contract, {file}, {.seed = 1});
  const Memory memory(contract);
  for (int step = 0; step < 11; ++step) ASSERT_TRUE(source->Next(memory.views()).ok());
  const auto position = ParseDataPosition(ToJson(source->position()));
  ASSERT_TRUE(position.ok());
  EXPECT_EQ(*position, source->position());
  EXPECT_EQ(position->epoch, 1);
  // Another batch size, as after a change of --accumulate or batch, goes on at the same sample; the seed is the
  // position's.
  auto resumed = OpenOk(contract, {file}, {.seed = 99});
  ASSERT_TRUE(resumed->Seek(*position).ok());
  for (int step = 0; step < 20; ++step) {
    ASSERT_TRUE(source->Next(memory.views()).ok());
    const Doubles expected = memory.Get("input_ids");
    ASSERT_TRUE(resumed->Next(memory.views()).ok());
    EXPECT_EQ(memory.Get("input_ids"), expected) << step;
  }
  const Status beyond = source->Seek({0, 25, 1});
  ASSERT_FALSE(beyond.ok());
  EXPECT_NE(beyond.error().what.find("25 samples"), std::string::npos);
}

TEST(TokenBatchesTest, OnePassPadsItsLastBatchOrLeavesItOut) {
  TempFolder folder;
  const std::string file = Spilled(folder, "a", Count(0, 10));
  for (bool ignores : {true, false}) {
    const Contract contract = Causal(3, 2, Labels::kUnshifted, ignores ? std::optional<int64_t>(-100) : std::nullopt);
    auto source = OpenOk(contract, {file}, {.shuffle = false, .once = true});
    const Memory memory(contract);
    for (int pass = 0; pass < 2; ++pass) {
      EXPECT_EQ(source->Next(memory.views())->tokens, 3);
      if (ignores) {
        EXPECT_EQ(source->Next(memory.views())->tokens, 2);
        EXPECT_EQ(memory.Get("labels"), (Doubles{6, 7, 8, 9, -100, -100}));
      }
      EXPECT_TRUE(source->Next(memory.views())->end);
      ASSERT_TRUE(source->Seek({}).ok());
    }
  }
}

TEST(TokenBatchesTest, SaysWhatIsWrongBeforeTraining) {
  TempFolder folder;
  const auto refusal = [&](const Contract& contract, const std::string& file, bool scan = true) {
    const auto source = TokenBatches::Open(contract, {file}, std::nullopt, {}, scan, "package");
    EXPECT_FALSE(source.ok());
    return source.ok() ? "" : source.error().Format();
  };
  const std::string shorter = Spilled(folder, "short", Count(0, 4));
  EXPECT_NE(refusal(Causal(1, 4, Labels::kShifted), shorter).find("has 4 tokens, and a sample of this package needs 5"),
            std::string::npos);
  const std::string beyond = Spilled(folder, "beyond", {1, 2, 3, 1000, 5});
  EXPECT_NE(refusal(Causal(1, 4, Labels::kShifted), beyond)
                .find("token 3 of the file is 1000, and the embedding of 'input_ids' has 1000 rows"),
            std::string::npos);
  Contract fewer = Causal(1, 4, Labels::kShifted);  // classes than rows
  fewer.inputs[1].limit = 5;
  EXPECT_NE(refusal(fewer, beyond).find("token 3 of the file is 1000, and the loss on 'labels' has 5 classes"),
            std::string::npos);
  EXPECT_TRUE(
      TokenBatches::Open(Causal(1, 4, Labels::kShifted), {beyond}, std::nullopt, {}, /*scan=*/false, "package").ok());
}

TEST(DataPositionTest, OnlyItsOwnText) {
  const DataPosition position{3, 12, 18446744073709551615u};
  EXPECT_EQ(ToJson(position), "{\"epoch\":3,\"sample\":12,\"seed\":18446744073709551615}");
  EXPECT_EQ(*ParseDataPosition(ToJson(position)), position);
  for (const char* text :
       {"", "[]", "{}", "{\"epoch\":3,\"sample\":12}", "{\"epoch\":-1,\"sample\":0,\"seed\":1}",
        "{\"epoch\":0,\"sample\":-2,\"seed\":1}", "{\"epoch\":0,\"sample\":2,\"seed\":-1}",
        "{\"epoch\":0,\"sample\":2,\"seed\":1,\"more\":1}", "{\"epoch\":\"0\",\"sample\":2,\"seed\":1}"}) {
    const auto parsed = ParseDataPosition(text);
    EXPECT_FALSE(parsed.ok()) << text;
  }
}

}  // namespace
}  // namespace autospc::data
