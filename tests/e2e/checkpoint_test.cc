// Checkpoints and saved weights as a user meets them: training that is interrupted and goes on elsewhere.
#include <fmt/format.h>

#include <csignal>
#include <map>
#include <regex>
#include <set>
#include <tuple>

#include "tests/e2e/programs.h"

namespace autospc::e2e {
namespace {

// Losses by step, as the run's lines tell them.
std::map<int, double> LossesIn(const std::string& text) {
  const std::regex line(R"(step\W+(\d+)\b.*?\bloss\W+([-+.\deE]+))");
  std::map<int, double> losses;
  for (std::sregex_iterator at(text.begin(), text.end(), line), end; at != end; ++at) losses[std::stoi((*at)[1])] = std::stod((*at)[2]);
  return losses;
}

void Compile(const fs::path& out, int ranks, const Args& more = {}, const std::string& model = "llama") {
  Args options = {"--optimizer", "adamw", "--clip-norm", "1.0"};
  options.insert(options.end(), more.begin(), more.end());
  const Args compile = CompileArgs(Pt2(model), out, ranks, 61, options);
  const Outcome compiled = Execute(compile);
  ASSERT_EQ(compiled.code, 0) << Said(compile, compiled);
}

Args TrainArgs(const fs::path& package, int ranks, int steps, const Args& more = {}, const std::string& model = "llama") {
  Args args = GoldenArgs(package, ranks, Golden(model, "s61"), {"--steps", std::to_string(steps), "--lr", "0.01"});
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

Outcome MustRun(const Args& args) {
  const Outcome ran = Execute(args);
  EXPECT_EQ(ran.code, 0) << Said(args, ran);
  return ran;
}

TEST(CheckpointTest, GoesOnAtOtherNumbersOfRanksAndOtherPackages) {
  TempFolder folder;
  const std::string dir = (folder / "c").string();
  Compile(folder / "four", 4, {"--zero", "2"});
  const Outcome whole = MustRun(TrainArgs(folder / "four", 4, 6, {"--checkpoint", dir, "--checkpoint-every", "3"}));
  const std::map<int, double> losses = LossesIn(whole.out);
  ASSERT_EQ(losses.size(), 6u);
  EXPECT_NE(whole.err.find("a rank's copy takes"), std::string::npos) << whole.err;
  const std::string three = dir + "/step-00000003";
  ASSERT_TRUE(fs::exists(three + "/manifest.json")) << whole.All();
  ASSERT_TRUE(fs::exists(dir + "/step-00000006/manifest.json")) << whole.All();
  for (const auto& [ranks, options] : {std::tuple<int, Args>{1, {}}, {2, {"--zero", "1"}}, {4, {"--zero", "2"}},
                                       {2, {"--recompute", "full", "--strategy", "allgather-kv"}}}) {
    SCOPED_TRACE(fmt::format("at P = {} {}", ranks, Line(options)));
    const fs::path package = folder / fmt::format("other{}", fs::path(folder.path()).filename().string() + Line(options) + std::to_string(ranks));
    Compile(package, ranks, options);
    const Outcome rest = MustRun(TrainArgs(package, ranks, 6, {"--resume", three}));
    const std::map<int, double> later = LossesIn(rest.out);
    ASSERT_EQ(later.size(), 3u) << rest.All();
    // Parameters and states are the same bits; another P rounds its sums otherwise.
    for (const auto& [step, loss] : later) EXPECT_NEAR(loss, losses.at(step), ranks == 4 ? 0 : 1e-5 * losses.at(step)) << step;
    EXPECT_NE(rest.err.find("resumed after step 3 from"), std::string::npos) << rest.err;
  }
}

TEST(CheckpointTest, ACheckpointsParametersAreTheFolderOfAHuggingFaceCheckpoint) {
  TempFolder folder;
  Compile(folder / "two", 2, {"--zero", "1"});
  MustRun(TrainArgs(folder / "two", 2, 2, {"--checkpoint", (folder / "c").string(), "--save-weights", (folder / "out").string()}));
  // A package without an optimiser compares: the golden is of what the resumed run has.
  ASSERT_EQ(Execute(CompileArgs(Pt2("llama"), folder / "plain", 1, 61)).code, 0);
  const fs::path golden = folder / "trained.safetensors";
  const Args write = GoldenArgs(folder / "plain", 1, Golden("llama", "s61"),
                                {"--resume", (folder / "c").string(), "--write-golden", golden.string(), "--rtol", "1e9"});
  MustRun(write);
  for (const fs::path& weights : {folder / "out", folder / "c" / "step-00000002"}) {
    MustRun(GoldenArgs(folder / "plain", 1, golden, {"--weights", weights.string(), "--rtol", "1e-9"}));
  }
  const Args untrained = GoldenArgs(folder / "plain", 1, golden);
  EXPECT_EQ(Execute(untrained).code, 1) << "training has changed them";
}

// A checkpoint with names of its own, tied embeddings among them, comes back under these.
TEST(CheckpointTest, WeightsAreSavedUnderTheOriginalCheckpointsNames) {
  TempFolder folder;
  const fs::path original = Models() / "weightless" / "checkpoint";
  Compile(folder / "late", 2, {}, "weightless");
  Compile(folder / "early", 2, {"--weights", original.string()}, "weightless");
  MustRun(TrainArgs(folder / "late", 2, 2, {"--weights", original.string(), "--save-weights", (folder / "a").string()}, "weightless"));
  MustRun(TrainArgs(folder / "early", 2, 2, {"--save-weights", (folder / "b").string(), "--max-shard-size", "20KB"}, "weightless"));
  EXPECT_TRUE(fs::exists(folder / "a" / "config.json"));
  EXPECT_TRUE(fs::exists(folder / "b" / "model.safetensors.index.json"));
  ASSERT_EQ(Execute(CompileArgs(Pt2("weightless"), folder / "plain", 1, 61)).code, 0);
  const fs::path golden = folder / "trained.safetensors";
  MustRun(GoldenArgs(folder / "plain", 1, Golden("weightless", "s61"),
                     {"--weights", (folder / "a").string(), "--write-golden", golden.string(), "--rtol", "1e9"}));
  MustRun(GoldenArgs(folder / "plain", 1, golden, {"--weights", (folder / "b").string(), "--rtol", "1e-9"}));
  const auto names = [](const fs::path& file) {
    std::set<std::string> found;
    const std::string text = ReadFile(file);
    const std::regex name(R"re("([\w.]+)":\{"d)re");
    for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at) found.insert((*at)[1]);
    return found;
  };
  std::set<std::string> expected = names(original / "model-00001-of-00002.safetensors");
  expected.merge(names(original / "model-00002-of-00002.safetensors"));
  EXPECT_EQ(names(folder / "a" / "model.safetensors"), expected);
}

TEST(CheckpointTest, DamagedOnesAreSkippedAndFullDisksLeaveTheOlderOne) {
  TempFolder folder;
  const std::string dir = (folder / "c").string();
  Compile(folder / "two", 2);
  MustRun(TrainArgs(folder / "two", 2, 4, {"--checkpoint", dir, "--checkpoint-every", "2"}));
  std::string shard = ReadFile(dir + "/step-00000004/model-00001-of-00002.safetensors");
  shard[shard.size() / 2] = static_cast<char>(shard[shard.size() / 2] ^ 1);
  WriteFile(dir + "/step-00000004/model-00001-of-00002.safetensors", shard);
  const Outcome skipped = MustRun(TrainArgs(folder / "two", 2, 3, {"--resume", dir}));
  EXPECT_NE(skipped.err.find("warning: skipped the checkpoint"), std::string::npos) << skipped.err;
  EXPECT_NE(skipped.err.find("resumed after step 2"), std::string::npos) << skipped.err;
  fs::remove_all(dir + "/step-00000004");
  // Files of at most 64 KiB stand for a disk that is full.
  Args full = TrainArgs(folder / "two", 2, 4, {"--resume", dir, "--checkpoint", dir});
  full[0] = AUTOSPC_BIN_DIR "/autosp-run";
  const Args limited = {"/bin/sh", "-c", "ulimit -f 128; exec " + Line(full)};
  const Outcome ended = Execute(limited);
  EXPECT_EQ(ended.code, 1) << Said(limited, ended);
  EXPECT_NE(ended.err.find("the checkpoint of step 4 could not be written: cannot write: File too large"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("the checkpoint of step 2 is whole"), std::string::npos) << ended.err;
  MustRun(TrainArgs(folder / "two", 2, 3, {"--resume", dir}));
}

TEST(CheckpointTest, ASignalWritesOneAndExitsWith0) {
  for (const auto& [name, target] : {std::pair{"TERM", "launcher"}, {"USR1", "launcher"}, {"USR1", "rank"}}) {
    SCOPED_TRACE(fmt::format("{} to the {}", name, target));
    TempFolder folder;
    const std::string dir = (folder / "c").string();
    Compile(folder / "two", 2);
    Args args = TrainArgs(folder / "two", 2, 1000000, {"--checkpoint", dir, "--save-weights", (folder / "out").string()});
    args[0] = AUTOSPC_BIN_DIR "/autosp-run";
    const std::string whom = target == std::string("rank") ? "$(pgrep -P $! | head -1)" : "$!";
    const Args script = {"/bin/sh", "-c", fmt::format("{} >{}/steps & while ! grep -q 'step  *3' {}/steps 2>/dev/null; do sleep 0.05; done; kill -{} {}; wait $!",
                                                     Line(args), folder.path().string(), folder.path().string(), name, whom)};
    const Outcome stopped = Execute(script);
    EXPECT_EQ(stopped.code, 0) << Said(script, stopped);
    const std::map<int, double> losses = LossesIn(ReadFile(folder / "steps"));
    ASSERT_FALSE(losses.empty());
    const int last = losses.rbegin()->first;
    EXPECT_TRUE(fs::exists(dir + fmt::format("/step-{:08}/manifest.json", last))) << stopped.err;
    EXPECT_NE(stopped.err.find(fmt::format("stopped after step {}", last)), std::string::npos) << stopped.err;
    EXPECT_FALSE(fs::exists(folder / "out")) << "it was not the end";
    const Outcome rest = MustRun(TrainArgs(folder / "two", 2, last + 2, {"--checkpoint", dir, "--resume", "auto"}));
    EXPECT_EQ(LossesIn(rest.out).size(), 2u) << rest.All();
  }
}

TEST(CheckpointTest, MistakesAreSaidBeforeAnythingStarts) {
  TempFolder folder;
  const std::string dir = (folder / "c").string();
  Compile(folder / "one", 1);
  const auto expect = [&](const Args& more, int code, const std::string& what, int steps = 2) {
    const Args args = TrainArgs(folder / "one", 1, steps, more);
    const Outcome ran = Execute(args);
    EXPECT_EQ(ran.code, code) << Said(args, ran);
    EXPECT_NE(ran.err.find(what), std::string::npos) << what << "\n" << Said(args, ran);
    EXPECT_TRUE(LossesIn(ran.out).empty()) << ran.out;
  };
  expect({"--checkpoint-every", "5"}, 2, "--checkpoint-every without --checkpoint");
  expect({"--keep", "5"}, 2, "--keep without --checkpoint");
  expect({"--checkpoint", dir, "--checkpoint-every", "0"}, 2, "--checkpoint-every");
  expect({"--checkpoint", dir, "--keep", "-1"}, 2, "--keep");
  expect({"--checkpoint", dir, "--limit-data"}, 2, "--limit-data and --checkpoint exclude each other");
  expect({"--resume", "auto"}, 2, "which is not given");
  expect({"--resume", dir}, 3, "no such folder");
  expect({"--max-shard-size", "1GB"}, 2, "--max-shard-size without --save-weights");
  expect({"--save-weights", folder.path().string()}, 2, "the output exists");
  expect({"--save-weights", (folder / "no" / "out").string()}, 2, "parent folder does not exist");
  const Args no_steps = GoldenArgs(folder / "one", 1, Golden("llama", "s61"), {"--checkpoint", dir});
  EXPECT_EQ(Execute(no_steps).code, 2);
  EXPECT_FALSE(fs::exists(dir));
  MustRun(TrainArgs(folder / "one", 1, 2, {"--checkpoint", dir}));
  expect({"--checkpoint", dir}, 2, "holds a checkpoint of step 2, and this run begins at step 0");
  Compile(folder / "other", 1, {}, "gpt");
  const Args other = TrainArgs(folder / "other", 1, 4, {"--resume", dir}, "gpt");
  const Outcome wrong = Execute(other);
  EXPECT_EQ(wrong.code, 3) << Said(other, wrong);
  EXPECT_NE(wrong.err.find("the checkpoint is of another model"), std::string::npos) << wrong.err;
}

}  // namespace
}  // namespace autospc::e2e
