#include "compiler/planner.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include <nlohmann/json.hpp>

namespace autospc {
namespace {

using nlohmann::json;

CompileOptions Options(const std::string& model, int64_t budget = 0) {
  CompileOptions options;
  options.model = (std::filesystem::path(AUTOSPC_SOURCE_DIR) / "models" / model / (model + ".pt2")).string();
  options.context.memory_budget = budget;
  // Saving all has a peak that is told by the graph alone: what is tested here is the search.
  options.context.recompute = "none";
  options.context.tile = "off";
  return options;
}

Trials TrialsOf(const CompileOptions& options) {
  Result<import::Model> model = ImportModel(options);
  EXPECT_TRUE(model.ok()) << model.error().Format();
  return Trials(std::move(model).value(), options);
}

Setting At(int ranks, std::optional<int64_t> seq_len, int zero = 0) { return {ranks, seq_len, zero, "none", "off"}; }

TEST(Trials, IsTheCompilationAndRunsOnce) {
  CompileOptions options = Options("llama");
  Trials trials = TrialsOf(options);
  const Result<const Trial*> trial = trials.Run(At(2, 64));
  ASSERT_TRUE(trial.ok()) << trial.error().Format();
  EXPECT_EQ(*trials.Run(At(2, 64)), *trial);
  EXPECT_EQ(trials.count(), 1);
  options.context.ranks = 2;
  options.bindings.seq_len = 64;
  const Result<Compiled> compiled = Compile(options);
  ASSERT_TRUE(compiled.ok());
  EXPECT_EQ((*trial)->memory.arena_bytes, compiled->program.arena_bytes);
  EXPECT_DOUBLE_EQ((*trial)->cost.total.flops, compiled->program.flops);
  int64_t sent = 0;
  for (const auto& c : compiled->program.collectives) sent += c->bytes;
  EXPECT_EQ((*trial)->cost.total.bytes_sent, static_cast<double>(sent));
}

TEST(Trials, WhatDoesNotFitIsATrialAndOtherErrorsAreErrors) {
  Trials trials = TrialsOf(Options("llama", 1000));
  const Result<const Trial*> trial = trials.Run(At(1, 64));
  ASSERT_TRUE(trial.ok()) << trial.error().Format();
  EXPECT_FALSE((*trial)->fits);
  ASSERT_TRUE((*trial)->why.has_value());
  EXPECT_EQ((*trial)->why->code, Code::kDoesNotFit);
  const Result<const Trial*> without = trials.Run(At(1, std::nullopt));
  ASSERT_FALSE(without.ok());
  EXPECT_EQ(without.error().code, Code::kUsage) << "the export leaves the length open";
}

// Every multiple of the grain is compiled, and the search must have found the last that fits.
TEST(FindLongest, AgreesWithTryingThemAll) {
  for (const int ranks : {1, 3}) {
    Trials trials = TrialsOf(Options("llama", 3 << 20));
    const Result<Longest> longest = FindLongest(trials, At(ranks, std::nullopt));
    ASSERT_TRUE(longest.ok()) << longest.error().Format();
    ASSERT_TRUE(longest->best && longest->too_long);
    EXPECT_EQ(longest->step % ranks, 0);
    EXPECT_GE(longest->step, 64);
    EXPECT_LE(longest->trials, 20);
    int64_t last = 0;
    for (int64_t s = longest->step; s <= longest->too_long->seq_len; s += longest->step) {
      const Result<const Trial*> trial = trials.Run(At(ranks, s));
      ASSERT_TRUE(trial.ok());
      if ((*trial)->fits) last = s;
    }
    EXPECT_EQ(longest->best->seq_len, last) << ranks << " ranks";
    EXPECT_EQ(longest->too_long->seq_len, last + longest->step);
    EXPECT_EQ(longest->limit, "");
  }
}

TEST(FindLongest, EndsAtTheExportsLastLength) {
  Trials trials = TrialsOf(Options("gpt", int64_t{1} << 40));
  const Result<Longest> longest = FindLongest(trials, At(3, std::nullopt));
  ASSERT_TRUE(longest.ok()) << longest.error().Format();
  ASSERT_TRUE(longest->best.has_value());
  EXPECT_TRUE(trials.CheckLength(longest->best->seq_len).ok());
  EXPECT_FALSE(trials.CheckLength(longest->best->seq_len + 1).ok());
  EXPECT_NE(longest->limit, "");
  EXPECT_FALSE(longest->too_long.has_value());
}

TEST(FindLongest, NotEvenTheShortest) {
  Trials trials = TrialsOf(Options("llama", 1000));
  const Result<Longest> longest = FindLongest(trials, At(2, std::nullopt));
  ASSERT_TRUE(longest.ok());
  EXPECT_FALSE(longest->best.has_value());
  ASSERT_TRUE(longest->too_long.has_value());
  EXPECT_EQ(longest->too_long->seq_len, 64);
}

TEST(WhatWouldFit, EachWayAloneThenTogether) {
  CompileOptions options = Options("llama", 8 << 20);
  options.context.optimizer = "adamw";
  Trials trials = TrialsOf(options);
  // Saving all, 2 ranks hold 16 MiB; the compiler's own choice fits, and so do more ranks and a shorter sequence.
  const Result<std::vector<std::string>> ways = WhatWouldFit(trials, At(2, 2048));
  ASSERT_TRUE(ways.ok()) << ways.error().Format();
  ASSERT_EQ(ways->size(), 3u);
  EXPECT_TRUE(ways->at(0).starts_with("--recompute auto --tile auto: ")) << ways->at(0);
  EXPECT_TRUE(ways->at(1).starts_with("--ranks ")) << ways->at(1);
  EXPECT_TRUE(ways->at(2).starts_with("--seq-len ")) << ways->at(2);
}

TEST(WhatWouldFit, ABatchInMicroBatchesIsTheSameStep) {
  CompileOptions options = Options("bytes");
  options.bindings.batch = 6;
  Trials any = TrialsOf(options);
  Setting thirds = At(1, 256);
  thirds.parts = 3;
  const Result<const Trial*> whole = any.Run(At(1, 256)), third = any.Run(thirds);
  ASSERT_TRUE(whole.ok() && third.ok());
  EXPECT_EQ((*third)->batch, 2);
  EXPECT_EQ((*third)->micro_batches, 3);
  ASSERT_LT((*third)->memory.total_bytes(), (*whole)->memory.total_bytes() / 2);
  options.context.memory_budget = (*third)->memory.total_bytes();
  Trials trials = TrialsOf(options);
  const Result<std::vector<std::string>> ways = WhatWouldFit(trials, At(1, 256));
  ASSERT_TRUE(ways.ok()) << ways.error().Format();
  EXPECT_TRUE(std::any_of(ways->begin(), ways->end(), [](const std::string& w) { return w.starts_with("--batch 2 --accumulate 3: "); }))
      << ::testing::PrintToString(*ways);
}

TEST(WhatWouldFit, NothingFitsWhereTheWeightsDoNot) {
  Trials trials = TrialsOf(Options("llama", 1000));
  const Result<std::vector<std::string>> ways = WhatWouldFit(trials, At(2, 64));
  ASSERT_TRUE(ways.ok());
  EXPECT_TRUE(ways->empty());
  EXPECT_LE(trials.count(), 5) << "more ranks and shorter sequences need not be tried";
}

Plan PlanFor(const std::vector<int64_t>& ranks, int64_t budget, std::optional<int64_t> seq_len) {
  PlanRequest request;
  request.options = Options("llama", budget);
  request.options.bindings.seq_len = seq_len;
  request.meshes.assign(ranks.begin(), ranks.end());
  Result<Plan> plan = MakePlan(request);
  EXPECT_TRUE(plan.ok()) << plan.error().Format();
  return std::move(plan).value();
}

TEST(DescribePlan, TextFitsAHundredColumnsInEveryCase) {
  for (const Plan& plan : {PlanFor({1, 2, 1024}, 3 << 20, std::nullopt), PlanFor({2}, 1000, std::nullopt), PlanFor({1, 2}, 0, 256),
                           PlanFor({1}, 1000, 256)}) {
    std::istringstream lines(DescribePlan(plan, false));
    for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  }
}

TEST(DescribePlan, JsonHasItsKeys) {
  const json root = json::parse(DescribePlan(PlanFor({1, 2}, 3 << 20, std::nullopt), true));
  for (const char* key : {"model", "strategy", "optimizer", "budget", "seq_len", "machine", "assumptions", "rows", "cheapest", "trials", "seconds"})
    EXPECT_TRUE(root.contains(key)) << key;
  for (const json& row : root["rows"]) {
    for (const char* key : {"ranks", "fits", "seq_len", "batch", "zero", "recompute", "memory", "peak", "seconds", "flops", "bytes_moved",
                            "bytes_sent", "ops", "curve", "limit", "too_long", "step", "trials"})
      EXPECT_TRUE(row.contains(key)) << key;
  }
  EXPECT_EQ(root["rows"][1]["memory"]["total"], root["rows"][1]["peak"]);
}

TEST(MakePlan, AMeshIsPlannedAsItIsCompiled) {
  PlanRequest request;
  request.options = Options("llama");
  request.options.bindings.seq_len = 64;
  request.meshes = {Mesh(/*sp_ranks=*/2, /*dp_ranks=*/2)};
  const Result<Plan> plan = MakePlan(request);
  ASSERT_TRUE(plan.ok()) << plan.error().Format();
  const Trial& trial = plan->rows.at(0).settings.at(0);
  CompileOptions options = request.options;
  options.context.ranks = 4;
  options.context.dp = 2;
  const Result<Compiled> compiled = Compile(options);
  ASSERT_TRUE(compiled.ok()) << compiled.error().Format();
  EXPECT_EQ(trial.memory.arena_bytes, compiled->program.arena_bytes);
  EXPECT_DOUBLE_EQ(trial.cost.total.flops, compiled->program.flops);
  options.context.dp = 1;
  const Result<Compiled> sequence_alone = Compile(options);
  ASSERT_TRUE(sequence_alone.ok());
  EXPECT_NE(trial.memory.arena_bytes, sequence_alone->program.arena_bytes) << "a mesh is another program";
  const json row = json::parse(DescribePlan(*plan, true))["rows"][0];
  EXPECT_EQ(row["ranks"], 4);
  EXPECT_EQ(row["dp"], 2);
  EXPECT_NE(DescribePlan(*plan, false).find("--mesh dp=2,sp=2"), std::string::npos) << DescribePlan(*plan, false);
}

TEST(WhatWouldFit, MoreRanksOfAMeshAreALargerMesh) {
  Trials any = TrialsOf(Options("llama"));
  Setting mesh = At(4, 256);
  mesh.dp = 2;
  Setting larger = mesh;
  larger.ranks = 8;
  const Result<const Trial*> small = any.Run(mesh), large = any.Run(larger);
  ASSERT_TRUE(small.ok() && large.ok());
  ASSERT_LT((*large)->memory.total_bytes(), (*small)->memory.total_bytes());
  Trials trials = TrialsOf(Options("llama", (*large)->memory.total_bytes()));
  const Result<std::vector<std::string>> ways = WhatWouldFit(trials, mesh);
  ASSERT_TRUE(ways.ok());
  EXPECT_TRUE(std::any_of(ways->begin(), ways->end(), [](const std::string& w) { return w.find("--mesh dp=2,sp=4: ") != w.npos; }))
      << ::testing::PrintToString(*ways);
}

TEST(MakePlan, NothingToPlanForIsUsage) {
  PlanRequest request;
  request.options = Options("llama");
  const Result<Plan> plan = MakePlan(request);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, Code::kUsage);
}

}  // namespace
}  // namespace autospc
