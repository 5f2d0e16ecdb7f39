// Steps of several micro-batches (--accumulate) against one device in float64 that has the whole batch.
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <tuple>

#include "tests/e2e/programs.h"
#include "tests/e2e/safetensors_edit.h"

namespace autospc::e2e {
namespace {

using nlohmann::json;

// A golden file of three micro-batches, each of which has the batch of that golden: the first with a seventh of its labels,
// the second with none, the third with the rest. Their losses are those of the one batch, token by token, so loss and
// gradients over all valid tokens stay as they are; a mean of means would be NaN.
fs::path InThree(const std::string& model, const std::string& which, const fs::path& path) {
  const int64_t ignored = model == "gpt" ? -1 : -100;
  const SafetensorsEdit whole(Golden(model, which));
  SafetensorsEdit three = whole;
  three.data.clear();
  for (auto& [name, entry] : three.header.items()) {
    if (name == "__metadata__") continue;
    const size_t from = entry["data_offsets"][0], to = entry["data_offsets"][1], at = three.data.size();
    const std::string bytes = whole.data.substr(from, to - from);
    for (int m = 0; m < (name.starts_with("in.") ? 3 : 1); ++m) {
      std::string part = bytes;
      if (name == "in.labels") {
        for (size_t i = 0; i < part.size() / sizeof(int64_t); ++i) {
          if (m == (i % 7 == 0 ? 0 : 2)) continue;
          std::memcpy(part.data() + i * sizeof(int64_t), &ignored, sizeof(int64_t));
        }
      }
      three.data += part;
    }
    if (name.starts_with("in.")) entry["shape"][0] = 3 * entry["shape"][0].get<int64_t>();
    entry["data_offsets"] = {at, three.data.size()};
  }
  three.Write(path);
  return path;
}

struct Case {
  std::string model;
  int ranks;
  int length;
  Args more;
  std::string label;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.label; }

class AccumulateTest : public testing::TestWithParam<Case> {};

TEST_P(AccumulateTest, EveryGradientIsThatOfAllTokens) {
  const Case& c = GetParam();
  TempFolder folder;
  const fs::path golden = InThree(c.model, "s" + std::to_string(c.length), folder / "three.safetensors");
  Args more = {"--accumulate", "3", "--strict"};
  more.insert(more.end(), c.more.begin(), c.more.end());
  ExpectMatchesGolden(Pt2(c.model), golden, c.ranks, c.length, more);
}

INSTANTIATE_TEST_SUITE_P(
    Models, AccumulateTest,
    testing::Values(Case{"gpt", 1, 61, {}, "gpt_P1"}, Case{"gpt", 2, 64, {"--strategy", "allgather-kv"}, "gpt_P2_allgather"},
                    Case{"llama", 1, 61, {"--optimizer", "adamw"}, "llama_P1_adamw"}, Case{"llama", 2, 61, {}, "llama_P2"},
                    Case{"llama", 3, 61, {"--optimizer", "sgd", "--clip-norm", "0.5"}, "llama_P3_sgd_clip"},
                    Case{"encoder", 3, 64, {}, "encoder_P3"}, Case{"shifted", 2, 61, {}, "shifted_P2"},
                    Case{"padded", 2, 61, {}, "padded_P2"}, Case{"window", 2, 61, {}, "window_P2"},
                    Case{"llama", 2, 61, {"--optimizer", "adamw", "--zero", "1", "--clip-norm", "0.5"}, "llama_P2_zero1"},
                    Case{"llama", 3, 61, {"--optimizer", "adamw", "--zero", "2", "--clip-norm", "0.5"}, "llama_P3_zero2"},
                    Case{"llama", 4, 61, {"--mesh", "dp=2,sp=2", "--optimizer", "adamw"}, "llama_dp2_sp2"},
                    Case{"llama", 2, 64, {"--recompute", "full", "--optimizer", "adamw"}, "llama_P2_recompute_full"},
                    Case{"llama", 2, 64, {"--optimizer", "adamw", "--clip-norm", "1", "--memory-budget", "620KiB"}, "llama_P2_budget"}),
    [](const auto& info) { return info.param.label; });

// A mean over all tokens without a count: three rows of a batch, a step's micro-batches one by one.
TEST(AccumulateMeanTest, RowsOfABatchAreItsMicroBatches) {
  for (const int ranks : {1, 2, 3}) {
    ExpectMatchesGolden(Pt2("batched"), Golden("batched", "s64"), ranks, 64, {"--batch", "1", "--accumulate", "3", "--strict"});
  }
}

// 16-bit gradients, summed in float32: as far from float64 as those of one batch (precision_test.cc).
TEST(AccumulatePrecisionTest, SixteenBitGradientsAreAsGoodAsThoseOfOneBatch) {
  TempFolder folder;
  const Args tolerance = {"--rtol", "0.025"};
  const fs::path llama = InThree("llama", "s61", folder / "llama.safetensors"), half = InThree("half", "s61", folder / "half.safetensors");
  ExpectMatchesGolden(Pt2("llama"), llama, 2, 61, {"--accumulate", "3", "--dtype", "bf16", "--optimizer", "adamw"}, tolerance);
  ExpectMatchesGolden(Pt2("llama"), llama, 3, 61, {"--accumulate", "3", "--dtype", "bf16", "--optimizer", "adamw", "--zero", "2"}, tolerance);
  ExpectMatchesGolden(Pt2("half"), half, 1, 61, {"--accumulate", "3", "--optimizer", "sgd", "--clip-norm", "1"}, tolerance);
}

// The number that `key` has in the last line of JSON that tells of it.
double Last(const std::string& lines, const std::string& key) {
  double last = std::nan("");
  std::istringstream in(lines);
  for (std::string line; std::getline(in, line);) {
    const json told = json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (told.is_object() && told.contains(key)) last = told[key];
  }
  return last;
}

// Accuracy is over the step's valid labels (they are shared out over the micro-batches), entropy over all tokens.
TEST(AccumulateLoggedTest, OutputsAreOfTheWholeStep) {
  TempFolder folder;
  const fs::path golden = InThree("logged", "s61", folder / "three.safetensors");
  const auto told = [&](const Args& more, const fs::path& file) {
    Args options = {"--loss", "loss", "--log-output", "metrics.accuracy", "--log-output", "metrics.entropy", "--optimizer", "sgd", "--force"};
    options.insert(options.end(), more.begin(), more.end());
    const Args compile = CompileArgs(Pt2("logged"), folder / "package", 2, 61, options);
    const Outcome compiled = Execute(compile);
    EXPECT_EQ(compiled.code, 0) << Said(compile, compiled);
    const Args run = GoldenArgs(folder / "package", 2, file, {"--steps", "1", "--json"});
    const Outcome ran = Execute(run);
    EXPECT_EQ(ran.code, 0) << Said(run, ran);
    return std::pair(Last(ran.out, "metrics.accuracy"), Last(ran.out, "metrics.entropy"));
  };
  const auto whole = told({}, Golden("logged", "s61")), summed = told({"--accumulate", "3"}, golden);
  EXPECT_NEAR(summed.first, whole.first, 1e-6);
  EXPECT_NEAR(summed.second, whole.second, 1e-5);
}

// The same samples in the same order, four at once or one after the other, at any P, also from a checkpoint on; an
// evaluation takes micro-batches as batches and leaves the sums alone.
TEST(AccumulateDataTest, MicroBatchesTakeTheDataInOrder) {
  TempFolder folder;
  std::string text;
  for (int i = 0; i < 4000; ++i) text += static_cast<char>('a' + (i * i / 7 + i % 5) % 26);
  WriteFile(folder / "text", text);
  const auto train = [&](const std::string& name, int ranks, const Args& compile_more, const Args& run_more) {
    if (!fs::exists(folder / name)) {
      Args options = {"--optimizer", "adamw", "--clip-norm", "1"};
      options.insert(options.end(), compile_more.begin(), compile_more.end());
      const Args compile = CompileArgs(Pt2("bytes"), folder / name, ranks, 64, options);
      const Outcome compiled = Execute(compile);
      EXPECT_EQ(compiled.code, 0) << Said(compile, compiled);
    }
    Args run = {"autosp-run", "--nproc-per-node", std::to_string(ranks), (folder / name).string(), "--data", (folder / "text").string(),
                "--token-dtype", "uint8", "--lr", "1e-3", "--json"};
    run.insert(run.end(), run_more.begin(), run_more.end());
    const Outcome ran = Execute(run);
    EXPECT_EQ(ran.code, 0) << Said(run, ran);
    return ran.out;
  };
  const std::string whole = train("whole", 1, {"--batch", "4"}, {"--init", "1", "--steps", "8"});
  EXPECT_EQ(Last(whole, "tokens"), 4 * 64);
  const std::string one = train("one", 1, {"--batch", "1", "--accumulate", "4"},
                                {"--init", "1", "--steps", "8", "--eval-data", (folder / "text").string(), "--eval-every", "3",
                                 "--eval-batches", "2", "--checkpoint", (folder / "c").string(), "--checkpoint-every", "4"});
  const std::string two = train("two", 2, {"--batch", "2", "--accumulate", "2"}, {"--init", "1", "--steps", "8"});
  const std::string rest = train("two", 2, {}, {"--steps", "8", "--resume", (folder / "c" / "step-00000004").string()});
  for (const std::string& out : {one, two, rest}) {
    EXPECT_EQ(Last(out, "tokens"), 4 * 64);
    EXPECT_NEAR(Last(out, "loss"), Last(whole, "loss"), 1e-5) << out;
    EXPECT_NEAR(Last(out, "grad_norm"), Last(whole, "grad_norm"), 1e-4) << out;
  }
}

// An evaluation's batch is one micro-batch, be the loss a mean or a sum over a count.
TEST(AccumulateEvalTest, IsOfOneMicroBatchAtATime) {
  TempFolder folder;
  std::vector<uint16_t> tokens;
  for (int i = 0; i < 1000; ++i) tokens.push_back(static_cast<uint16_t>((i * i / 3 + i) % 64));
  WriteFile(folder / "tokens", {reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size()});
  for (const auto& [model, more] : {std::pair{"batched", Args{"--batch", "2"}}, {"llama", Args{}}}) {
    const auto eval = [&, model = model, more = more](const std::string& count) {
      Args options = {"--accumulate", count, "--optimizer", "sgd", "--force"};
      options.insert(options.end(), more.begin(), more.end());
      const Args compile = CompileArgs(Pt2(model), folder / "package", 1, 61, options);
      const Outcome compiled = Execute(compile);
      EXPECT_EQ(compiled.code, 0) << Said(compile, compiled);
      const std::string file = (folder / "tokens").string();
      const Args run = {"autosp-run", "--nproc-per-node", "1", (folder / "package").string(), "--data", file, "--token-dtype", "uint16",
                        "--labels", "shifted", "--steps", "1", "--lr", "0", "--eval-data", file, "--eval-batches", "2", "--json"};
      const Outcome ran = Execute(run);
      EXPECT_EQ(ran.code, 0) << Said(run, ran);
      return Last(ran.out, "eval_loss");
    };
    EXPECT_NEAR(eval("3"), eval("1"), 1e-6) << model;
  }
}

TEST(AccumulateStepsTest, TwentyStepsAsInEager) {
  TempFolder folder;
  for (const auto& [model, ranks, zero] : {std::tuple{"gpt", 1, "0"}, {"llama", 2, "0"}, {"llama", 3, "2"}}) {
    const fs::path golden = InThree(model, "s61", folder / "three.safetensors");
    const Args compile = CompileArgs(Pt2(model), folder / "package", ranks, 61,
                                     {"--accumulate", "3", "--optimizer", "adamw", "--clip-norm", "1.0", "--zero", zero, "--force"});
    const Outcome compiled = Execute(compile);
    ASSERT_EQ(compiled.code, 0) << Said(compile, compiled);
    const Args run = GoldenArgs(folder / "package", ranks, golden, {"--steps", "20", "--lr", "0.01", "--json"});
    const Outcome ran = Execute(run);
    ASSERT_EQ(ran.code, 0) << Said(run, ran);
    const SafetensorsEdit reference(Models() / model / (model + std::string(".steps_s61.safetensors")));
    const std::vector<double> losses = reference.Doubles("losses"), norms = reference.Doubles("grad_norms");
    std::istringstream lines(ran.out);
    size_t step = 0;
    for (std::string line; std::getline(lines, line); ++step) {
      ASSERT_LT(step, losses.size()) << Said(run, ran);
      const json told = json::parse(line);
      // As for steps of one batch (training_test.cc).
      EXPECT_NEAR(told["loss"].get<double>(), losses[step], 1e-4 * losses[step]) << model << " step " << step;
      EXPECT_NEAR(told["grad_norm"].get<double>(), norms[step], 1e-3 * norms[step]) << model << " step " << step;
    }
    EXPECT_EQ(step, losses.size()) << Said(run, ran);
  }
}

TEST(AccumulateRefusedTest, WhatIsNoSumOverTokensIsSaid) {
  TempFolder folder;
  const Args compile = CompileArgs(Pt2("frozen"), folder / "package", 1, 61, {"--accumulate", "2"});
  const Outcome compiled = Execute(compile);
  EXPECT_EQ(compiled.code, 4) << Said(compile, compiled);
  EXPECT_NE(compiled.err.find("the loss reads the buffer 'mean', which each micro-batch writes"), std::string::npos) << compiled.err;
}

TEST(AccumulateGoldenTest, AFileOfOneMicroBatchIsToldFromOneOfAll) {
  TempFolder folder;
  const Args compile = CompileArgs(Pt2("gpt"), folder / "package", 1, 61, {"--accumulate", "2"});
  ASSERT_EQ(Execute(compile).code, 0);
  const Outcome shown = Execute({"autospc", "inspect", (folder / "package").string()});
  EXPECT_NE(shown.out.find("a step is 2 micro-batches of batch 2"), std::string::npos) << shown.out;
  const Args one = GoldenArgs(folder / "package", 1, Golden("gpt", "s61"));
  const Outcome of_one = Execute(one);
  EXPECT_EQ(of_one.code, 3) << Said(one, of_one);
  EXPECT_NE(of_one.err.find("step is 2 micro-batches, the file holds the inputs of one"), std::string::npos) << of_one.err;
  const Args three = GoldenArgs(folder / "package", 1, InThree("gpt", "s61", folder / "three.safetensors"));
  const Outcome of_three = Execute(three);
  EXPECT_EQ(of_three.code, 3) << Said(three, of_three);
  EXPECT_NE(of_three.err.find("takes 2 micro-batches of i64 [2, 61], the file holds i64 [6, 61]"), std::string::npos) << of_three.err;
}

}  // namespace
}  // namespace autospc::e2e
