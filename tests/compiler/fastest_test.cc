// The choice among candidate programs: the same whether or not all are weighed, and the same under a budget that it just fits.
#include "compiler/fastest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "codegen/memory_report.h"
#include "compiler/driver.h"

namespace autospc {
namespace {

Compiled CompileLlama(bool curve, int64_t budget) {
  CompileOptions options;
  options.model = (std::filesystem::path(AUTOSPC_SOURCE_DIR) / "models" / "llama" / "llama.pt2").string();
  options.context.ranks = 2;
  options.context.memory_budget = budget;
  options.bindings.seq_len = 64;
  options.curve = curve;
  Result<Compiled> compiled = Compile(options);
  EXPECT_TRUE(compiled.ok()) << compiled.error().Format();
  return std::move(compiled).value();
}

const PlanPoint& Chosen(const Compiled& compiled) {
  const auto it = std::find_if(compiled.curve.begin(), compiled.curve.end(), [](const PlanPoint& p) { return p.chosen; });
  EXPECT_NE(it, compiled.curve.end());
  return *it;
}

TEST(FastestThatFits, WeighingAllChangesNoChoice) {
  const Compiled quick = CompileLlama(false, 0), weighed = CompileLlama(true, 0);
  EXPECT_GT(weighed.curve.size(), quick.curve.size()) << "or there is nothing to be told apart";
  EXPECT_EQ(Chosen(weighed).label, Chosen(quick).label);
  EXPECT_EQ(weighed.program.arena_bytes, quick.program.arena_bytes);
  for (const PlanPoint& p : weighed.curve) EXPECT_LE(Chosen(weighed).seconds, p.seconds) << p.label << " is faster, and no budget forbids it";
}

TEST(FastestThatFits, ABudgetOfThePeakItselfFits) {
  const Compiled free = CompileLlama(false, 0);
  const int64_t total = codegen::ReportMemory(free.program).total_bytes();
  EXPECT_EQ(Chosen(free).peak_bytes, total) << "as the budget counts";
  EXPECT_EQ(Chosen(CompileLlama(false, total)).label, Chosen(free).label);
  EXPECT_NE(Chosen(CompileLlama(false, total - 1)).label, Chosen(free).label);
}

}  // namespace
}  // namespace autospc
