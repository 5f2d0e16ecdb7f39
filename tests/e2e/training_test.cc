// Twenty AdamW steps with clipping, against eager PyTorch in float64 (models/steps.py).
#include <fmt/format.h>

#include <regex>
#include <tuple>

#include "tests/e2e/programs.h"
#include "tests/e2e/safetensors_edit.h"

namespace autospc::e2e {
namespace {

struct Step {
  double loss, norm;
};

// The lines that tell a step: its number, the loss, the gradient norm.
std::vector<Step> StepsIn(const std::string& text) {
  const std::regex line(R"(step\W+(\d+)\b.*?\bloss\W+([-+.\deE]+).*?\bgrad_norm\W+([-+.\deE]+))");
  std::vector<Step> steps;
  for (std::sregex_iterator at(text.begin(), text.end(), line), end; at != end; ++at) {
    steps.push_back({std::stod((*at)[2]), std::stod((*at)[3])});
  }
  return steps;
}

void ExpectTrainsLikeEager(const fs::path& model, const fs::path& golden, const fs::path& expected, int ranks,
                           const Args& more = {}) {
  TempFolder folder;
  Args options = {"--optimizer", "adamw", "--clip-norm", "1.0"};
  options.insert(options.end(), more.begin(), more.end());
  const Args compile = CompileArgs(model, folder / "package", ranks, 61, options);
  const Outcome compiled = Execute(compile);
  ASSERT_EQ(compiled.code, 0) << Said(compile, compiled);
  const Args run = GoldenArgs(folder / "package", ranks, golden, {"--steps", "20", "--lr", "0.01"});
  const Outcome ran = Execute(run);
  ASSERT_EQ(ran.code, 0) << Said(run, ran);
  const SafetensorsEdit reference(expected);
  const std::vector<double> losses = reference.Doubles("losses"), norms = reference.Doubles("grad_norms");
  const std::vector<Step> steps = StepsIn(ran.All());
  ASSERT_EQ(steps.size(), losses.size()) << Said(run, ran);
  for (size_t i = 0; i < steps.size(); ++i) {
    // Eager float32 itself stays within 7e-6 of float64 in the losses (models/steps.py prints it).
    EXPECT_NEAR(steps[i].loss, losses[i], 1e-4 * losses[i]) << "step " << i;
    EXPECT_NEAR(steps[i].norm, norms[i], 1e-3 * norms[i]) << "step " << i;
  }
}

struct Case {
  std::string model;
  int ranks;
};
class TrainingTest : public testing::TestWithParam<Case> {};
void PrintTo(const Case& c, std::ostream* out) { *out << c.model << "_P" << c.ranks; }

TEST_P(TrainingTest, TwentyStepsAsInEager) {
  const auto& [model, ranks] = GetParam();
  ExpectTrainsLikeEager(Pt2(model), Golden(model, "s61"), Models() / model / (model + ".steps_s61.safetensors"), ranks);
}

// "frozen" has a parameter that must not move and a buffer that each step hands to the next.
INSTANTIATE_TEST_SUITE_P(Models, TrainingTest,
                         testing::Values(Case{"gpt", 1}, Case{"gpt", 2}, Case{"gpt", 4}, Case{"llama", 1},
                                         Case{"llama", 2}, Case{"llama", 4}, Case{"frozen", 1}, Case{"frozen", 3}),
                         [](const auto& info) { return info.param.model + "_P" + std::to_string(info.param.ranks); });

// States, then gradients too, in blocks over the ranks: the same steps, and whole gradients for who asks.
TEST(ZeroTrainingTest, TwentyStepsAsInEager) {
  for (const auto& [model, ranks, stage] : {std::tuple{"llama", 2, "1"}, {"llama", 3, "2"}, {"frozen", 4, "2"}}) {
    SCOPED_TRACE(fmt::format("{} at P = {}, stage {}", model, ranks, stage));
    ExpectTrainsLikeEager(Pt2(model), Golden(model, "s61"),
                          Models() / model / (model + std::string(".steps_s61.safetensors")), ranks, {"--zero", stage});
    ExpectMatchesGolden(Pt2(model), Golden(model, "s61"), ranks, 61,
                        {"--optimizer", "adamw", "--clip-norm", "0.5", "--zero", stage});
  }
}

TEST(TrainingZooTest, TwentyStepsAsInEager) {
  if (!fs::exists(Zoo())) GTEST_SKIP() << "no zoo beside this checkout";
  for (const std::string model : {"nanogpt", "hf_llama"}) {
    for (int ranks : {1, 2, 4}) {
      SCOPED_TRACE(model + " at P = " + std::to_string(ranks));
      ExpectTrainsLikeEager(Pt2(model, Zoo()), Golden(model, "s61", Zoo()),
                            Models() / "steps" / (model + ".steps_s61.safetensors"), ranks);
    }
  }
}

}  // namespace
}  // namespace autospc::e2e
