// `autospc plan`, and what `autospc compile` says when a step does not fit: every figure is held against a compilation.
#include <regex>

#include <nlohmann/json.hpp>

#include "tests/e2e/programs.h"

namespace autospc::e2e {
namespace {

using nlohmann::json;

constexpr int kUsage = 2, kBadInput = 3, kDoesNotFit = 5;

json PlanOf(const std::string& model, const Args& more, int code = 0) {
  Args args = {"autospc", "plan", Pt2(model).string(), "--json"};
  args.insert(args.end(), more.begin(), more.end());
  const Outcome outcome = Execute(args);
  EXPECT_EQ(outcome.code, code) << Said(args, outcome);
  return json::parse(outcome.out, nullptr, false);
}

int CompileCode(const std::string& model, const Args& flags, std::string* err = nullptr) {
  TempFolder folder;
  Args args = {"autospc", "compile", Pt2(model).string(), "-o", (folder / "p").string()};
  args.insert(args.end(), flags.begin(), flags.end());
  const Outcome outcome = Execute(args);
  if (err) *err = outcome.err;
  EXPECT_EQ(folder.Names().empty(), outcome.code != 0) << "left behind by " << Line(args);
  return outcome.code;
}

TEST(Plan, TheLongestFitsAndTheNextDoesNot) {
  const int64_t budget = 4 << 20;
  const json plan = PlanOf("llama", {"--ranks", "1,2,4", "--memory-budget", std::to_string(budget), "--optimizer", "adamw",
                                     "--recompute", "none", "--tile", "off"});
  ASSERT_EQ(plan["rows"].size(), 3u);
  int64_t shorter = 0;
  for (const json& row : plan["rows"]) {
    const int64_t seq_len = row["seq_len"], ranks = row["ranks"];
    EXPECT_TRUE(row["fits"]);
    EXPECT_LE(row["peak"].get<int64_t>(), budget);
    EXPECT_EQ(row["peak"].get<int64_t>(), row["memory"]["persistent"].get<int64_t>() + row["memory"]["arena"].get<int64_t>());
    EXPECT_GE(seq_len, shorter) << "more ranks, a shorter sequence";
    shorter = seq_len;
    EXPECT_GT(row["too_long"]["peak"].get<int64_t>(), budget);
    EXPECT_LE(row["too_long"]["seq_len"].get<int64_t>() - seq_len, row["step"].get<int64_t>());
    EXPECT_LE(row["trials"].get<int>(), 20);
    EXPECT_GT(row["seconds"].get<double>(), 0);
    EXPECT_GT(row["flops"].get<double>(), 0);
    EXPECT_EQ(row["bytes_sent"].get<double>() > 0, ranks > 1);
    const Args flags = {"--ranks", std::to_string(ranks), "--memory-budget", std::to_string(budget), "--optimizer", "adamw",
                        "--recompute", "none", "--tile", "off", "--seq-len"};
    Args longest = flags, longer = flags;
    longest.push_back(std::to_string(seq_len));
    longer.push_back(std::to_string(row["too_long"]["seq_len"].get<int64_t>()));
    if (ranks > 2) continue;  // two are enough to see that compiling agrees
    EXPECT_EQ(CompileCode("llama", longest), 0);
    EXPECT_EQ(CompileCode("llama", longer), kDoesNotFit);
  }
}

TEST(Plan, ALargerBudgetIsNeverAShorterSequence) {
  int64_t shorter = 0;
  for (const char* budget : {"1500KiB", "3MiB"}) {
    const json plan = PlanOf("llama", {"--ranks", "2", "--memory-budget", budget});
    const int64_t seq_len = plan["rows"][0]["seq_len"];
    EXPECT_GE(seq_len, shorter) << budget;
    shorter = seq_len;
  }
  EXPECT_GT(shorter, 0);
}

TEST(Plan, StopsAtTheExportsRangeWithAWord) {
  const json plan = PlanOf("gpt", {"--ranks", "2", "--memory-budget", "4GiB"});
  const json& row = plan["rows"][0];
  std::string err;
  const int64_t seq_len = row["seq_len"];
  EXPECT_EQ(CompileCode("gpt", {"--ranks", "2", "--seq-len", std::to_string(seq_len)}), 0);
  EXPECT_EQ(CompileCode("gpt", {"--ranks", "2", "--seq-len", std::to_string(seq_len + 1)}, &err), kBadInput);
  EXPECT_NE(err.find(row["limit"].get<std::string>()), std::string::npos) << "the reason is what compiling it would say\n" << err;
  EXPECT_NE(row["limit"], "");
}

TEST(Plan, ALengthGivenTellsMemoryCurveAndTheCheapestSettings) {
  const json plan = PlanOf("llama", {"--ranks", "1,2", "--seq-len", "512", "--optimizer", "adamw", "--zero", "auto"});
  ASSERT_EQ(plan["rows"].size(), 2u);
  EXPECT_EQ(plan["budget"], json());
  double least = 0;
  for (const json& row : plan["rows"]) {
    EXPECT_EQ(row["seq_len"], 512);
    ASSERT_FALSE(row["curve"].empty());
    int chosen = 0;
    for (const json& point : row["curve"]) {
      chosen += point["chosen"].get<bool>();
      EXPECT_TRUE(!point["chosen"] || point["arena"] == row["memory"]["arena"]) << point;
    }
    EXPECT_EQ(chosen, 1);
    double seconds = 0;
    for (const json& op : row["ops"]) seconds += op["seconds"].get<double>();
    EXPECT_NEAR(seconds, row["seconds"].get<double>(), 1e-9);
    const double cost = row["seconds"].get<double>() * row["ranks"].get<double>();
    if (least == 0 || cost < least) least = cost;
  }
  EXPECT_EQ(plan["rows"][0]["settings"].size(), 1u);
  EXPECT_EQ(plan["rows"][1]["settings"].size(), 3u) << "ZeRO 0, 1, 2";
  EXPECT_DOUBLE_EQ(plan["cheapest"]["seconds"].get<double>() * plan["cheapest"]["ranks"].get<double>(), least);
}

TEST(Plan, TheTextIsATableOfAHundredColumns) {
  const Args args = {"autospc", "plan", Pt2("llama").string(), "--ranks", "1,2", "--memory-budget", "2MiB"};
  const Outcome outcome = Execute(args);
  EXPECT_EQ(outcome.code, 0) << Said(args, outcome);
  std::istringstream lines(outcome.out);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
  for (const char* part : {"llama: batch 2, strategy ulysses, optimizer none, 2.00 MiB a rank", "ranks     longest", "Memory of a rank",
                           "at the least", "programs compiled"}) {
    EXPECT_NE(outcome.out.find(part), std::string::npos) << part << "\n" << outcome.out;
  }
}

TEST(Plan, WhereNoCountFitsIsExit5) {
  const Args args = {"autospc", "plan", Pt2("llama").string(), "--ranks", "1,2", "--memory-budget", "50KiB"};
  const Outcome outcome = Execute(args);
  EXPECT_EQ(outcome.code, kDoesNotFit) << Said(args, outcome);
  EXPECT_NE(outcome.out.find("does not fit, not even 64 tokens"), std::string::npos) << outcome.out;
  EXPECT_NE(outcome.err.find("exceeds the budget by"), std::string::npos) << outcome.err;
}

TEST(Plan, MistakesAreRefused) {
  const auto code = [](const Args& flags) {
    Args args = {"autospc", "plan"};
    args.insert(args.end(), flags.begin(), flags.end());
    const Outcome outcome = Execute(args);
    EXPECT_NE(outcome.err.find("hint: "), std::string::npos) << Said(args, outcome);
    return outcome.code;
  };
  const std::string model = Pt2("llama").string();
  EXPECT_EQ(code({}), kUsage);
  EXPECT_EQ(code({model, "--ranks", "2"}), kUsage) << "neither a length nor a budget";
  EXPECT_EQ(code({model, "--ranks", "0", "--memory-budget", "1GiB"}), kUsage);
  EXPECT_EQ(code({model, "--ranks", "two", "--memory-budget", "1GiB"}), kUsage);
  EXPECT_EQ(code({model, "--memory-budget", "much"}), kUsage);
  EXPECT_EQ(code({model, "--memory-budget", "1GiB", "--zero", "3"}), kUsage);
  EXPECT_EQ(code({model, "--memory-budget", "1GiB", "--machine", "abacus"}), kUsage);
  EXPECT_EQ(code({model, "--memory-budget", "1GiB", "--recompute", "some"}), kUsage);
  EXPECT_EQ(code({Pt2("batched").string(), "--memory-budget", "1GiB"}), kUsage) << "no batch size";
  EXPECT_EQ(code({model, "--seq-len", "1"}), kBadInput);
}

// "(8718175568 bytes) more": exact, and so is every way out that the hint names.
TEST(DoesNotFit, SaysByHowMuchWhatIsAliveAndWhatWouldFit) {
  const Args flags = {"--ranks", "2", "--seq-len", "2048", "--optimizer", "adamw", "--recompute", "none", "--tile", "off"};
  const json planned = PlanOf("llama", {"--ranks", "2", "--seq-len", "2048", "--optimizer", "adamw", "--recompute", "none", "--tile", "off"});
  const int64_t needed = planned["rows"][0]["peak"], budget = needed / 3 * 2;
  Args over = flags;
  over.insert(over.end(), {"--memory-budget", std::to_string(budget)});
  std::string err;
  ASSERT_EQ(CompileCode("llama", over, &err), kDoesNotFit) << err;
  std::smatch match;
  ASSERT_TRUE(std::regex_search(err, match, std::regex(R"(\((\d+) bytes\) more than the budget)"))) << err;
  EXPECT_EQ(std::stoll(match[1]), needed - budget);
  // Ten buffers with their source lines.
  const std::regex buffer(R"(\n +[\d.]+ (B|KiB|MiB)  (activations|gradients|workspace|communication) +\S+ +\S+:\d+)");
  EXPECT_GE(std::distance(std::sregex_iterator(err.begin(), err.end(), buffer), std::sregex_iterator()), 8) << err;
  // The same flags with those of a way out fit; a flag given twice is an error, so what they replace is left out.
  int ways = 0;
  std::istringstream lines(err.substr(err.find("any of these fits:")));
  std::string line;
  std::getline(lines, line);
  while (std::getline(lines, line) && line.starts_with("    --")) {
    std::istringstream words(line.substr(0, line.find(':')));
    const Args way{std::istream_iterator<std::string>(words), {}};
    Args fits;
    for (size_t i = 0; i < over.size(); i += 2) {
      if (std::find(way.begin(), way.end(), over[i]) == way.end()) fits.insert(fits.end(), {over[i], over[i + 1]});
    }
    fits.insert(fits.end(), way.begin(), way.end());
    std::string said;
    EXPECT_EQ(CompileCode("llama", fits, &said), 0) << line << "\n" << said;
    ++ways;
  }
  EXPECT_EQ(ways, 3) << "recomputation, ranks, length\n" << err;
}

}  // namespace
}  // namespace autospc::e2e
