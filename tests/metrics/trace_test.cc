#include "runtime/metrics/trace.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "runtime/metrics/clocks.h"

namespace autospc::metrics {
namespace {

using nlohmann::json;

TEST(ClocksTest, TheOffsetIsWithinItsError) {
  const int64_t truth = 5'000'000'123;  // rank 1's clock is ahead
  // What travels takes 30 to 400 us each way, and one rank may come late to the exchange.
  std::vector<std::vector<ClockReading>> readings(2);
  uint64_t random = 1;
  const auto draw = [&](int64_t below) { return static_cast<int64_t>((random = random * 6364136223846793005u + 1442695040888963407u) >> 33) % below; };
  for (int round = 0; round < 32; ++round) {
    const int64_t sent0 = 1'000'000 * round + draw(50'000), sent1 = 1'000'000 * round + draw(50'000);
    const int64_t to0 = std::max(sent0, sent1 + 30'000 + draw(370'000)), to1 = std::max(sent1, sent0 + 30'000 + draw(370'000));
    readings[0].push_back({sent0, to0});
    readings[1].push_back({sent1 + truth, to1 + truth});
  }
  const std::vector<ClockOffset> offsets = AlignClocks(readings);
  EXPECT_EQ(offsets[0].nanoseconds, 0);
  EXPECT_LE(std::abs(offsets[1].nanoseconds - truth), offsets[1].error);
  EXPECT_LT(offsets[1].error, 200'000);
}

program::ProgramT Program() {
  program::ProgramT p;
  p.name = "tiny";
  p.world_size = 2;
  p.sources = {"model.py:7", "model.py:9"};
  auto tensor = std::make_unique<program::TensorT>();
  tensor->name = "mm";
  tensor->sizes = {4, 8};
  tensor->dtype = program::DType::Float32;
  p.tensors.push_back(std::move(tensor));
  for (const auto& [op, source] : {std::pair("aten.mm.default", 0), {"autosp.all_reduce_", 1}}) {
    auto instruction = std::make_unique<program::InstructionT>();
    instruction->op = op;
    instruction->source = source;
    if (source == 0) instruction->outputs = {0};
    p.instructions.push_back(std::move(instruction));
  }
  auto collective = std::make_unique<program::CollectiveT>();
  collective->instruction = 1;
  collective->op = "autosp.all_reduce_";
  collective->bytes = 128;
  collective->axis = "sp";
  p.collectives.push_back(std::move(collective));
  return p;
}

json One(const json& events, const std::string& name, int tid) {
  json found;
  for (const json& e : events) {
    if (e["name"] == name && e.value("tid", 0) == tid) found = e;
  }
  return found;
}

TEST(TraceTest, RanksAreOnOneTimeLineAndWaitForEachOther) {
  // Rank 1's clock is 1 ms ahead. Its product takes 30 us longer, so that rank 0 waits for it.
  const std::vector<RankTrace> ranks = {
      {0, 0, {{3, 0, 1'000'000, 1'010'000}, {3, 1, 1'010'000, 1'050'000}}},
      {1'000'000, 5'000, {{3, 0, 2'000'000, 2'040'000}, {3, 1, 2'040'000, 2'050'000}}},
  };
  const json trace = json::parse(TraceJson(Program(), ranks));
  const json& events = trace["traceEvents"];
  const json product = One(events, "aten.mm.default  model.py:7", 1);
  EXPECT_EQ(product["ph"], "X");
  EXPECT_EQ(product["cat"], "compute");
  EXPECT_EQ(product["ts"], 0);
  EXPECT_EQ(product["dur"], 10);
  EXPECT_EQ(product["args"]["source"], "model.py:7");
  EXPECT_EQ(product["args"]["result"], "mm Float32 [4, 8]");
  EXPECT_EQ(One(events, "aten.mm.default  model.py:7", 2)["ts"], 0);
  const json reduce = One(events, "autosp.all_reduce_  model.py:9", 1);
  EXPECT_EQ(reduce["cat"], "collective");
  EXPECT_EQ(reduce["args"]["bytes_sent"], 128);
  const json waiting = One(events, "waiting for rank 1", 1), transfer = One(events, "transfer", 1);
  EXPECT_EQ(waiting["ts"], 10);
  EXPECT_EQ(waiting["dur"], 30);
  EXPECT_EQ(waiting["cat"], "waiting");
  EXPECT_EQ(transfer["ts"], 40);
  EXPECT_EQ(transfer["dur"], 10);
  EXPECT_TRUE(One(events, "waiting for rank 0", 2).is_null());  // the last one waits for nobody
  EXPECT_EQ(One(events, "step 3", 2)["dur"], 50);
}

TEST(TraceTest, GroupsOfAMeshWaitForThemselvesAlone) {
  program::ProgramT p = Program();
  p.world_size = 4;
  p.dp = 2;
  std::vector<RankTrace> ranks(4);
  for (int r = 0; r < 4; ++r) ranks[r].spans = {{1, 1, 1000 * r, 10'000}};
  const json events = json::parse(TraceJson(p, ranks))["traceEvents"];
  EXPECT_FALSE(One(events, "waiting for rank 1", 1).is_null());
  EXPECT_FALSE(One(events, "waiting for rank 3", 3).is_null());
  EXPECT_TRUE(One(events, "waiting for rank 3", 1).is_null());
}

}  // namespace
}  // namespace autospc::metrics
