// Training on data as a user does: token files, safetensors batches and streams, at several numbers of ranks;
// evaluation that leaves no trace; and every mistake said before the first step.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>

#include <cstring>
#include <regex>

#include "tests/e2e/programs.h"

namespace autospc::e2e {
namespace {

// Numbers below 64 that a model can learn: a walk with a rule and some noise.
std::vector<uint16_t> Tokens(int n, uint32_t seed = 1) {
  std::vector<uint16_t> tokens;
  uint32_t state = seed, x = 0;
  for (int i = 0; i < n; ++i) {
    state = state * 1664525u + 1013904223u;
    x = (state >> 24) < 200 ? (x * 5 + 3) % 64 : (state >> 16) % 64;
    tokens.push_back(static_cast<uint16_t>(x));
  }
  return tokens;
}

std::string Bytes(const std::vector<uint16_t>& tokens) {
  return {reinterpret_cast<const char*>(tokens.data()), tokens.size() * 2};
}

// The losses of the step lines ("step N  loss X  grad_norm"), as they are printed; or those of evaluations.
std::vector<std::string> Losses(const std::string& out, const std::string& word = "loss") {
  const std::regex line("step +\\d+ +" + word + " (\\S+)");
  std::vector<std::string> losses;
  for (std::sregex_iterator at(out.begin(), out.end(), line), end; at != end; ++at) losses.push_back((*at)[1]);
  return losses;
}

class DataTest : public testing::Test {
 protected:
  fs::path Package(const std::string& model, int ranks, const Args& more = {}) {
    const fs::path out = folder_ / fmt::format("{}.{}.{}", model, ranks, fmt::join(more, ""));
    if (fs::exists(out)) return out;
    Args args = CompileArgs(Pt2(model), out, ranks, 61, {"--optimizer", "adamw", "--clip-norm", "1"});
    args.insert(args.end(), more.begin(), more.end());
    const Outcome compiled = Execute(args);
    EXPECT_EQ(compiled.code, 0) << Said(args, compiled);
    return out;
  }
  std::string File(const std::string& name, const std::string& content) {
    WriteFile(folder_ / name, content);
    return (folder_ / name).string();
  }
  static Args RunArgs(const fs::path& package, int ranks, const Args& more) {
    Args args = {"autosp-run", "--nproc-per-node", std::to_string(ranks), package.string()};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  std::string Train(const fs::path& package, int ranks, const Args& more) {
    const Args args = RunArgs(package, ranks, more);
    const Outcome ran = Execute(args);
    EXPECT_EQ(ran.code, 0) << Said(args, ran);
    return ran.out;
  }
  // Exit code and message of what is to be refused, before any step.
  void ExpectRefused(const fs::path& package, const Args& more, int code, const std::string& part) {
    const Args args = RunArgs(package, 1, more);
    const Outcome ran = Execute(args);
    EXPECT_EQ(ran.code, code) << Said(args, ran);
    EXPECT_NE(ran.err.find(part), std::string::npos) << Said(args, ran);
    EXPECT_EQ(Losses(ran.out).size(), 0u) << Said(args, ran);
  }

  TempFolder folder_;
};

// The same global batches at every P: shards of the tokens, of the batch, masks, labels that model or data shifts.
TEST_F(DataTest, TheSameLossesAtEveryNumberOfRanks) {
  const std::string file = File("tokens.bin", Bytes(Tokens(3000)));
  for (const std::string model : {"gpt", "llama", "padded"}) {
    std::vector<std::string> reference;
    for (const auto& [ranks, mesh] : {std::pair<int, Args>{1, {}}, {2, {}}, {3, {}}, {4, {"--mesh", "dp=2,sp=2"}}}) {
      if (model != "gpt" && ranks > 2) continue;
      SCOPED_TRACE(fmt::format("{} at P = {}", model, ranks));
      Args compile = CompileArgs(Pt2(model), folder_ / (model + std::to_string(ranks)), ranks, 61,
                                 {"--optimizer", "adamw", "--clip-norm", "1"});
      if (!mesh.empty()) {
        compile.erase(compile.begin() + 5, compile.begin() + 7);  // --ranks
        compile.insert(compile.end(), mesh.begin(), mesh.end());
      }
      const Outcome compiled = Execute(compile);
      ASSERT_EQ(compiled.code, 0) << Said(compile, compiled);
      const std::vector<std::string> losses =
          Losses(Train(folder_ / (model + std::to_string(ranks)), ranks,
                       {"--data", file, "--steps", "12", "--lr", "0.01", "--seed", "3"}));
      ASSERT_EQ(losses.size(), 12u);
      if (ranks == 1) reference = losses;
      // Twelve steps of eager float32 stay within 7e-6 of float64 (models/steps.py); another batch differs by 1e-2.
      for (size_t i = 0; i < 12; ++i) EXPECT_NEAR(std::stod(losses[i]), std::stod(reference[i]), 1e-4) << "step " << i;
    }
    if (model == "padded") continue;  // sees the targets of both sides, and learns slowly
    EXPECT_LT(std::stod(reference.back()), std::stod(reference.front()) - 0.1) << model << " does not learn";
  }
}

// "frozen" has a buffer that each step updates and the next one reads.
TEST_F(DataTest, AnEvaluationLeavesNoTrace) {
  const std::string file = File("tokens.bin", Bytes(Tokens(2000))), other = File("eval.bin", Bytes(Tokens(700, 9)));
  for (int ranks : {1, 2}) {
    const fs::path package = Package("frozen", ranks);
    const Args train = {"--data", file, "--steps", "8", "--lr", "0.01"};
    Args evaluated = train;
    for (const char* more : {"--eval-data", other.c_str(), "--eval-every", "3"}) evaluated.push_back(more);
    const std::string plain = Train(package, ranks, train), with = Train(package, ranks, evaluated);
    EXPECT_EQ(Losses(plain), Losses(with));
    const std::vector<std::string> losses = Losses(with, "eval_loss");
    ASSERT_EQ(losses.size(), 3u) << with;  // after steps 3, 6 and 8
    EXPECT_NE(losses[0], losses[1]);
    const std::regex perplexity("perplexity (\\S+)[ (]+(\\d+) batches");
    std::smatch last;
    const std::string tail = with.substr(with.rfind("eval_loss"));
    ASSERT_TRUE(std::regex_search(tail, last, perplexity)) << tail;
    EXPECT_NEAR(std::stod(last[1]), std::exp(std::stod(losses[2])), 1e-3 * std::stod(last[1]));
    EXPECT_EQ(last[2], "6");  // 11 samples in batches of 2
    evaluated.insert(evaluated.end(), {"--eval-batches", "2"});
    EXPECT_TRUE(std::regex_search(Train(package, ranks, evaluated), std::regex("\\b2 batches")));
  }
}

// A golden file is a batch of safetensors too: the loss of the first step is its loss.
TEST_F(DataTest, SafetensorsBatchesAndStreamsGiveWhatFilesGive) {
  const fs::path package = Package("gpt", 2);
  const std::string golden = Golden("gpt", "s61").string();
  const std::vector<std::string> by_golden = Losses(Train(package, 2, {"--golden", golden, "--steps", "3"}));
  EXPECT_EQ(Losses(Train(package, 2, {"--data", golden, "--steps", "3", "--shuffle", "off"})), by_golden);

  const std::string program = AUTOSPC_BIN_DIR "/autosp-run --nproc-per-node 2 " + package.string();
  const auto shell = [&](const std::string& line) {
    const Args args = {"/bin/sh", "-c", line};
    Outcome ran = Execute(args);
    EXPECT_EQ(ran.code, 0) << Said(args, ran);
    return ran;
  };
  const auto pipe = [&](const std::string& files, const std::string& more) {
    return shell("cat " + files + " | " + program + " --data - " + more);
  };
  EXPECT_EQ(Losses(pipe(golden + " " + golden + " " + golden, "--steps 3").out), by_golden);

  const std::string file = File("tokens.bin", Bytes(Tokens(1000)));
  const std::vector<std::string> by_file =
      Losses(Train(package, 2, {"--data", file, "--steps", "4", "--shuffle", "off"}));
  EXPECT_EQ(Losses(pipe(file, "--steps 4").out), by_file);
  // The stream is over before the steps are: that is said, and no failure.
  const Outcome over = pipe(file, "--steps 99");
  EXPECT_EQ(Losses(over.out).size(), 8u) << over.All();  // 16 rows of 61 in batches of 2
  EXPECT_NE(over.err.find("the data is over after step 8 of 99"), std::string::npos) << over.err;

  const std::string fifo = (folder_ / "fifo").string();
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const Outcome ran = shell(fmt::format("cat {} > {} & exec {} --data {} --steps 4", file, fifo, program, fifo));
  EXPECT_EQ(Losses(ran.out), by_file);
}

TEST_F(DataTest, TheLearningRateFollowsItsSchedule) {
  const std::string file = File("tokens.bin", Bytes(Tokens(1000)));
  const std::string out = Train(Package("gpt", 1), 1,
                                {"--data", file, "--steps", "6", "--lr", "0.01", "--lr-schedule", "linear", "--warmup",
                                 "2", "--min-lr", "0.002", "--json"});
  const std::regex lr("\"lr\": ([^,]+)");
  std::vector<double> rates;
  for (std::sregex_iterator at(out.begin(), out.end(), lr), end; at != end; ++at) rates.push_back(std::stod((*at)[1]));
  ASSERT_EQ(rates.size(), 6u) << out;
  const std::vector<double> expected = {0.005, 0.01, 0.008, 0.006, 0.004, 0.002};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(rates[i], expected[i], 1e-9);
  EXPECT_NE(out.find("\"tokens\": 122"), std::string::npos) << out;
}

TEST_F(DataTest, FilesThatDoNotFitAreRefusedBeforeTraining) {
  const fs::path gpt = Package("gpt", 1);
  const auto data = [&](const std::string& file, const Args& more = {}) {
    Args args = {"--data", file, "--steps", "2"};
    args.insert(args.end(), more.begin(), more.end());
    return args;
  };
  ExpectRefused(gpt, data(File("short", Bytes(Tokens(61)))), 3, "has 61 tokens, and a sample of this package needs 62");
  ExpectRefused(gpt, data(File("odd", Bytes(Tokens(100)) + "x")), 3,
                "201 bytes are not a whole number of uint16 tokens");
  ExpectRefused(gpt, data(File("empty", "")), 3, "holds no token");
  ExpectRefused(gpt, data((folder_ / "absent").string()), 3, "cannot read");
  std::vector<uint16_t> beyond = Tokens(500);
  beyond[321] = 64;
  ExpectRefused(gpt, data(File("beyond", Bytes(beyond))), 3,
                "token 321 of the file is 64, and the embedding of 'input_ids' has 64 rows");
  const std::string good = File("good", Bytes(Tokens(500)));
  ExpectRefused(gpt, data(good, {"--eval-data", (folder_ / "beyond").string()}), 3, "token 321");
  std::string header(1024, '\0');
  const int32_t words[3] = {20240520, 1, 400};
  std::memcpy(header.data(), words, sizeof(words));
  ExpectRefused(gpt, data(File("header", header + Bytes(Tokens(399)))), 3,
                "its header counts 400 tokens of 2 bytes, and 798 bytes follow it");
  ExpectRefused(gpt, data(Golden("llama", "s64").string()), 3, "its sequence is longer than the package's");
}

TEST_F(DataTest, FlagsThatContradictAreRefused) {
  const fs::path gpt = Package("gpt", 1);
  const std::string file = File("tokens.bin", Bytes(Tokens(500))), golden = Golden("gpt", "s61").string();
  ExpectRefused(gpt, {"--data", file, "--golden", golden, "--steps", "1"}, 2, "--data and --golden exclude each other");
  ExpectRefused(gpt, {"--data", file}, 2, "--steps N");
  ExpectRefused(gpt, {"--golden", golden, "--labels", "shifted"}, 2, "--labels");
  ExpectRefused(gpt, {"--golden", golden, "--shuffle", "off"}, 2, "--shuffle");
  ExpectRefused(gpt, {"--golden", golden, "--token-dtype", "uint8"}, 2, "--token-dtype");
  ExpectRefused(gpt, {"--golden", golden, "--steps", "1", "--eval-data", file}, 2, "--eval-data");
  ExpectRefused(gpt, {"--data", file, "--steps", "1", "--token-dtype", "uint17"}, 2, "did you mean 'uint16'?");
  ExpectRefused(gpt, {"--data", file, "--steps", "1", "--labels", "moved"}, 2, "'--labels' is 'moved'");
  ExpectRefused(gpt, {"--data", file, "--steps", "1", "--shuffle", "no"}, 2, "'--shuffle' is 'no'");
  ExpectRefused(gpt, {"--data", file, "--steps", "1", "--eval-every", "2"}, 2, "--eval-every without --eval-data");
  ExpectRefused(gpt, {"--data", file, "--steps", "1", "--eval-data", file, "--eval-batches", "0"}, 2,
                "'--eval-batches' is 0");
  ExpectRefused(gpt, {"--data", file, "--steps", "1", "--eval-data", "-"}, 2, "--eval-data is a stream");
  ExpectRefused(gpt, {"--data", "-", file, "--steps", "1"}, 2, "a stream stands among several files");
  ExpectRefused(gpt, {"--data", file, golden, "--steps", "1"}, 2, "token files and safetensors files at once");
  ExpectRefused(gpt, {"--data", file, "--steps", "4", "--warmup", "5"}, 2, "'--warmup' is 5");
  ExpectRefused(gpt, {"--data", file, "--steps", "4", "--min-lr", "1e-4"}, 2, "--min-lr without a schedule");
  ExpectRefused(gpt, {"--data", file, "--steps", "4", "--lr-schedule", "cubic"}, 2, "'--lr-schedule' is 'cubic'");
  ExpectRefused(gpt, {"--data", file, "--steps", "4", "--lr", "-1"}, 2, "'--lr' is -1");
  const Outcome ran = Execute({"autosp-run", "--data", file, gpt.string()});
  EXPECT_EQ(ran.code, 2);
  EXPECT_NE(ran.err.find("the package stands before --data"), std::string::npos) << ran.err;
}

}  // namespace
}  // namespace autospc::e2e
