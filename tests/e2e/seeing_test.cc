// What people and programs see of a run: lines, metrics, events, traces, plots; and the stop at a loss that is none.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <set>
#include <sstream>

#include "tests/e2e/programs.h"

namespace autospc::e2e {
namespace {

using nlohmann::json;

std::vector<json> JsonLines(const std::string& text) {
  std::vector<json> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(json::parse(line, nullptr, false));
  return lines;
}

// models/gpt for two ranks, compiled once.
class SeeingTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TempFolder;
    const Args compile = CompileArgs(Pt2("gpt"), *folder_ / "package", 2, 61, {"--optimizer", "adamw"});
    const Outcome compiled = Execute(compile);
    ASSERT_EQ(compiled.code, 0) << Said(compile, compiled);
  }
  static void TearDownTestSuite() {
    delete folder_;
    folder_ = nullptr;
  }
  static Args Run(const Args& more) { return GoldenArgs(*folder_ / "package", 2, Golden("gpt", "s61"), more); }
  static TempFolder* folder_;
};
TempFolder* SeeingTest::folder_ = nullptr;

TEST_F(SeeingTest, FilesHoldWhatTheLinesSay) {
  const TempFolder out;
  const Args run = Run({"--steps", "5", "--json", "--metrics", (out / "m.jsonl").string(), "--tensorboard", (out / "tb").string(),
                        "--trace", (out / "trace.json").string(), "--trace-steps", "2:3", "--peak-flops", "100G"});
  const Outcome ran = Execute(run);
  ASSERT_EQ(ran.code, 0) << Said(run, ran);
  EXPECT_EQ(ran.All().find('\033'), std::string::npos) << "escape codes into a pipe";
  EXPECT_NE(ran.err.find("mfu against 100GFLOP/s, as given"), std::string::npos) << ran.err;

  const std::vector<json> said = JsonLines(ran.out), kept = JsonLines(ReadFile(out / "m.jsonl"));
  ASSERT_EQ(said.size(), 5u) << ran.out;
  ASSERT_EQ(kept.size(), 5u);
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(kept[i]["step"], i + 1);
    for (const char* field : {"loss", "grad_norm", "lr", "tokens", "tokens_per_second", "mfu", "planned_bytes", "measured_bytes", "seconds"}) {
      ASSERT_TRUE(kept[i].contains(field)) << field << " in " << kept[i].dump();
      EXPECT_EQ(kept[i][field], said[i][field]);
    }
    // What a rank holds is at least what a step has touched of the plan: weights, states, most of the arena.
    EXPECT_GT(kept[i]["measured_bytes"].get<double>(), 0.5 * kept[i]["planned_bytes"].get<double>());
  }

  ASSERT_EQ(std::distance(fs::directory_iterator(out / "tb"), fs::directory_iterator()), 1);
  const std::string events = ReadFile(fs::directory_iterator(out / "tb")->path());
  for (const char* tag : {"brain.Event:2", "train/loss", "train/mfu", "train/lr"}) EXPECT_NE(events.find(tag), std::string::npos) << tag;

  const json trace = json::parse(ReadFile(out / "trace.json"));
  std::set<int> ranks;
  std::set<std::string> steps, categories;
  std::map<int, double> end;  // by rank: where the last instruction ended
  for (const json& e : trace["traceEvents"]) {
    if (e["ph"] != "X") continue;
    ranks.insert(e["tid"].get<int>());
    categories.insert(e["cat"].get<std::string>());
    EXPECT_GE(e["ts"].get<double>(), 0);
    EXPECT_GE(e["dur"].get<double>(), 0);
    if (e["cat"] == "step") steps.insert(e["name"].get<std::string>());
    if (e["cat"] != "compute" && e["name"].get<std::string>().find('.') == std::string::npos) continue;
    // One row a rank: instructions follow each other.
    double& last = end[e["tid"].get<int>()];
    EXPECT_GE(e["ts"].get<double>(), last - 0.002) << e.dump();
    last = e["ts"].get<double>() + e["dur"].get<double>();
  }
  EXPECT_EQ(ranks, (std::set<int>{1, 2}));
  EXPECT_EQ(steps, (std::set<std::string>{"step 2", "step 3"}));
  for (const char* category : {"compute", "collective", "waiting", "data"}) EXPECT_TRUE(categories.contains(category)) << category;
  EXPECT_NE(ReadFile(out / "trace.json").find("zoo.py:"), std::string::npos) << "no source lines";

  const Args plot = {"autosp-run", "plot", (out / "m.jsonl").string(), (out / "m.jsonl").string(), "-o", (out / "loss.svg").string()};
  const Outcome plotted = Execute(plot);
  ASSERT_EQ(plotted.code, 0) << Said(plot, plotted);
  EXPECT_NE(ReadFile(out / "loss.svg").find("loss by step"), std::string::npos);

  // Another run into the same file is refused before anything starts.
  const Args again = Run({"--steps", "1", "--metrics", (out / "m.jsonl").string()});
  const Outcome refused = Execute(again);
  EXPECT_EQ(refused.code, 2) << Said(again, refused);
  EXPECT_NE(refused.err.find("holds the steps of another run"), std::string::npos);
  EXPECT_EQ(JsonLines(ReadFile(out / "m.jsonl")).size(), 5u);
}

TEST_F(SeeingTest, LinesForPeople) {
  const Args run = Run({"--steps", "2"});
  const Outcome ran = Execute(run);
  ASSERT_EQ(ran.code, 0) << Said(run, ran);
  std::istringstream in(ran.out);
  int lines = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    for (const char* part : {"step   ", "loss ", "grad_norm ", "lr 0.001", " tokens/s", "mfu ", "%  memory ", " of ", " s"}) {
      EXPECT_NE(line.find(part), std::string::npos) << part << "\n" << line;
    }
  }
  EXPECT_EQ(lines, 2);
  EXPECT_NE(ran.err.find("what a Float32 product reaches here"), std::string::npos) << ran.err;
}

TEST_F(SeeingTest, MetricsThatCanNotBeWrittenEndNoTraining) {
  const Args run = Run({"--steps", "3", "--metrics", "/dev/full"});
  const Outcome ran = Execute(run);
  EXPECT_EQ(ran.code, 0) << Said(run, ran);
  EXPECT_NE(ran.out.find("step   3"), std::string::npos);
  const size_t first = ran.err.find("No space left on device (/dev/full)");
  EXPECT_NE(first, std::string::npos) << ran.err;
  EXPECT_EQ(ran.err.find("No space left", first + 10), std::string::npos) << "said twice";
}

TEST_F(SeeingTest, ALossThatIsNoneStopsTheRun) {
  const Args run = Run({"--steps", "50", "--lr", "1e30"});
  const Outcome ran = Execute(run);
  EXPECT_EQ(ran.code, 1) << Said(run, ran);
  EXPECT_NE(ran.err.find("is NaN"), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("--check-numerics"), std::string::npos);
  const size_t said = ran.err.find("error: ");
  ASSERT_NE(said, std::string::npos);
  EXPECT_EQ(ran.err.find("error: ", said + 1), std::string::npos) << "once is enough: " << ran.err;

  const Args check = Run({"--steps", "50", "--lr", "1e30", "--check-numerics"});
  const Outcome checked = Execute(check);
  EXPECT_EQ(checked.code, 1) << Said(check, checked);
  EXPECT_NE(checked.err.find("error: step "), std::string::npos) << checked.err;
  EXPECT_NE(checked.err.find("makes the first "), std::string::npos) << checked.err;
  EXPECT_NE(checked.err.find("of rank "), std::string::npos);
  EXPECT_NE(checked.err.find("from zoo.py:"), std::string::npos) << checked.err;
}

TEST_F(SeeingTest, AHealthyRunPassesTheCheck) {
  const Args run = Run({"--steps", "3", "--check-numerics"}), plain = Run({"--steps", "3"});
  const Outcome ran = Execute(run), other = Execute(plain);
  ASSERT_EQ(ran.code, 0) << Said(run, ran);
  const auto losses = [](const std::string& text) {
    std::string all;
    for (size_t at = 0; (at = text.find("loss ", at)) != std::string::npos; ++at) all += text.substr(at, 15);
    return all;
  };
  EXPECT_EQ(losses(ran.out), losses(other.out));
}

TEST_F(SeeingTest, FlagsAreChecked) {
  for (const auto& [more, what] : std::vector<std::pair<Args, std::string>>{
           {{"--metrics", "m.jsonl"}, "--metrics tells of steps"},
           {{"--steps", "2", "--trace-steps", "1:2"}, "--trace-steps without --trace"},
           {{"--steps", "2", "--trace", "t.json", "--trace-steps", "3:1"}, "no range of steps"},
           {{"--steps", "2", "--peak-flops", "fast"}, "no number of FLOP/s"},
           {{"--steps", "2", "--metrics", "/nonexistent/m.jsonl"}, "folder does not exist"},
       }) {
    const Args run = Run(more);
    const Outcome ran = Execute(run);
    EXPECT_EQ(ran.code, 2) << Said(run, ran);
    EXPECT_NE(ran.err.find(what), std::string::npos) << Said(run, ran);
  }
  for (const Args& plot : std::vector<Args>{{"autosp-run", "plot"}, {"autosp-run", "plot", "x.jsonl"}, {"autosp-run", "plot", "x", "-o", "y", "--lgo"}}) {
    const Outcome ran = Execute(plot);
    EXPECT_EQ(ran.code, 2) << Said(plot, ran);
  }
  const Args absent = {"autosp-run", "plot", "absent.jsonl", "-o", "x.svg"};
  EXPECT_EQ(Execute(absent).code, 3);
}

}  // namespace
}  // namespace autospc::e2e
