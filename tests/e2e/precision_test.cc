// bfloat16: float32 exports compiled with --dtype bf16, exports of bfloat16 and of autocast as they are.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/e2e/programs.h"

namespace autospc::e2e {
namespace {

// Eager PyTorch in bfloat16 is within 1.8e-2 of float64 on these models (models/zoo.py prints it), under autocast 8.2e-3.
const Args kTolerance = {"--rtol", "0.025"};

TEST(PrecisionTest, SixteenBitExportsRunAsExported) {
  for (const char* model : {"half", "autocast"}) {
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE(fmt::format("{} at P = {}", model, ranks));
      ExpectMatchesGolden(Pt2(model), Golden(model, "s61"), ranks, 61, {"--strict"}, kTolerance);
    }
  }
}

TEST(PrecisionTest, FloatExportsComputeInBfloat16) {
  for (const char* model : {"gpt", "llama"}) {
    for (const int ranks : {1, 3}) {
      SCOPED_TRACE(fmt::format("{} at P = {}", model, ranks));
      ExpectMatchesGolden(Pt2(model), Golden(model, "s61"), ranks, 61, {"--strict", "--dtype", "bf16"}, kTolerance);
    }
  }
  // As a mesh, tiled (a budget that the plain form exceeds), sharded.
  ExpectMatchesGolden(Pt2("llama"), Golden("llama", "s61"), 4, 61,
                      {"--dtype", "bf16", "--optimizer", "adamw", "--zero", "2", "--memory-budget", "560KiB"}, kTolerance);
}

std::vector<double> Losses(const fs::path& model, const fs::path& golden, int ranks, const Args& more) {
  TempFolder folder;
  Args options = {"--optimizer", "adamw", "--clip-norm", "1.0"};
  options.insert(options.end(), more.begin(), more.end());
  const Args compile = CompileArgs(model, folder / "package", ranks, 61, options);
  const Outcome compiled = Execute(compile);
  EXPECT_EQ(compiled.code, 0) << Said(compile, compiled);
  const Args run = GoldenArgs(folder / "package", ranks, golden, {"--steps", "20", "--lr", "0.01", "--json"});
  const Outcome ran = Execute(run);
  EXPECT_EQ(ran.code, 0) << Said(run, ran);
  std::vector<double> losses;
  std::stringstream lines(ran.out);
  for (std::string line; std::getline(lines, line);) {
    const auto step = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (step.is_object() && step.contains("loss")) losses.push_back(step["loss"]);
  }
  return losses;
}

// Without float32 masters the small late updates would be lost.
TEST(PrecisionTest, TrainsAsInFloat32) {
  for (const char* model : {"gpt", "llama"}) {
    const std::vector<double> wide = Losses(Pt2(model), Golden(model, "s61"), 1, {});
    ASSERT_EQ(wide.size(), 20u);
    for (const int ranks : {1, 2}) {
      const std::vector<double> narrow = Losses(Pt2(model), Golden(model, "s61"), ranks, {"--dtype", "bf16"});
      ASSERT_EQ(narrow.size(), 20u);
      for (size_t i = 0; i < wide.size(); ++i) {
        EXPECT_NEAR(narrow[i], wide[i], 2e-2) << model << " at P = " << ranks << ", step " << i;
      }
    }
  }
}

// ZeRO's states are what they are whole: the same numbers.
TEST(PrecisionTest, ShardedMastersTrainAlike) {
  const std::vector<double> whole = Losses(Pt2("llama"), Golden("llama", "s61"), 2, {"--dtype", "bf16"});
  const std::vector<double> blocks = Losses(Pt2("llama"), Golden("llama", "s61"), 2, {"--dtype", "bf16", "--zero", "2"});
  ASSERT_EQ(whole.size(), 20u);
  ASSERT_EQ(blocks.size(), 20u);
  for (size_t i = 0; i < whole.size(); ++i) EXPECT_NEAR(blocks[i], whole[i], 1e-3);
}

TEST(PrecisionTest, AnExportOfSixteenBitsIsNotMadeSoAgain) {
  for (const char* model : {"half", "autocast"}) {
    TempFolder folder;
    const Args compile = CompileArgs(Pt2(model), folder / "package", 1, 61, {"--dtype", "bf16"});
    const Outcome outcome = Execute(compile);
    EXPECT_EQ(outcome.code, 3) << Said(compile, outcome);
    EXPECT_NE(outcome.err.find("the export computes in bf16 itself"), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("compile it without --dtype"), std::string::npos) << outcome.err;
  }
}

TEST(PrecisionTest, AnotherTypeIsAMistake) {
  TempFolder folder;
  const Args compile = CompileArgs(Pt2("llama"), folder / "package", 1, 61, {"--dtype", "fp8"});
  const Outcome outcome = Execute(compile);
  EXPECT_EQ(outcome.code, 2) << Said(compile, outcome);
  EXPECT_NE(outcome.err.find("--dtype"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace autospc::e2e
