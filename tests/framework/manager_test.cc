// The pass manager: order, verification after each pass, what it prints, dumps and leaves behind on failure.
#include "passes/framework/manager.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "passes/ir/parser.h"
#include "passes/ir/printer.h"

namespace autospc {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kText = R"(graph @g {
  input %x : f32[2, 4]{4, 1} user "x"
  %y = aten.neg.default(%x) : f32[2, 4]
  output user %y "y"
}
)";

std::string Read(const fs::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

class Manager : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              fmt::format("manager_{}", testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    setenv("TMPDIR", folder_.c_str(), 1);
    graph_ = ir::Parse(kText).value();
    const auto append = [](const char* op) {
      return [op](ir::Graph& g, PassContext&) -> Result<bool> {
        const ir::ValueId v = g.Emit(op, {ir::Arg::Value(g.outputs[0].value)}, ir::DType::kFloat32, {2, 4});
        g.outputs[0].value = v;
        return true;
      };
    };
    registry_.Add({"add-exp", "appends exp", append("aten.exp.default")});
    registry_.Add({"add-sin", "appends sin", append("aten.sin.default")});
    registry_.Add({"nothing", "changes nothing", [](ir::Graph&, PassContext&) -> Result<bool> { return false; }});
    registry_.Add({"break", "leaves a dangling output", [](ir::Graph& g, PassContext&) -> Result<bool> {
                     g.outputs[0].value = 99;
                     return true;
                   }});
    registry_.Add({"misplace", "a placement that the rules forbid", [](ir::Graph& g, PassContext&) -> Result<bool> {
                     g.value(g.inputs[0].value).placement = ir::Placement::Replicated();
                     g.value(g.outputs[0].value).placement = ir::Placement::Partial();
                     return true;
                   }});
    registry_.Add({"refuse", "finds fault with the input", [](ir::Graph& g, PassContext&) -> Result<bool> {
                     g.outputs.clear();
                     return Error{Code::kUnsupported, "no rule", "m.py:3", "leave out --strict"};
                   }});
  }
  void TearDown() override { fs::remove_all(folder_); }

  fs::path folder_;
  PassRegistry registry_;
  PassContext context_;
  ir::Graph graph_;
};

TEST_F(Manager, RunsInTheOrderGiven) {
  PassManager manager(registry_, {});
  ASSERT_TRUE(manager.Run(graph_, context_, {"add-sin", "add-exp", "nothing", "add-sin"}).ok());
  std::vector<std::string> ops;
  for (const ir::NodeId id : graph_.nodes()) ops.push_back(graph_.node(id).op);
  EXPECT_EQ(ops,
            (std::vector<std::string>{"aten.neg.default", "aten.sin.default", "aten.exp.default", "aten.sin.default"}));
  ASSERT_EQ(manager.timings().size(), 4u);
  EXPECT_EQ(manager.timings()[1].nodes, 3);
  EXPECT_TRUE(manager.timings()[1].changed);
  EXPECT_FALSE(manager.timings()[2].changed);
  const std::string table = manager.TimingTable();
  EXPECT_NE(table.find("add-exp"), std::string::npos);
  EXPECT_NE(table.find("unchanged"), std::string::npos);
}

TEST_F(Manager, AnUnknownPassIsUsageAndNothingRuns) {
  PassManager manager(registry_, {});
  const Status status = manager.Run(graph_, context_, {"add-sin", "add-cos"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kUsage);
  EXPECT_NE(status.error().what.find("'add-cos'"), std::string::npos);
  EXPECT_EQ(graph_.nodes().size(), 1u);
}

TEST_F(Manager, PrintsAfterTheNamedPassesOnly) {
  for (const auto& [wanted, times] :
       std::vector<std::pair<std::string, int>>{{"add-exp", 1}, {"all", 3}, {"import", 1}, {"none", 0}}) {
    std::string printed;
    int calls = 0;
    PassManagerOptions options;
    options.print_after = {wanted};
    options.print = [&](std::string_view text) {
      printed += text;
      ++calls;
    };
    PassManager manager(registry_, options);
    ir::Graph g = ir::Parse(kText).value();
    ASSERT_TRUE(manager.Observe(g, "import").ok());
    ASSERT_TRUE(manager.Run(g, context_, {"add-exp", "nothing"}).ok());
    EXPECT_EQ(calls, times) << wanted;
    if (wanted == "add-exp") EXPECT_EQ(printed, "# after add-exp\n" + ir::Print(g));
  }
}

TEST_F(Manager, DumpsNumberedFilesThatParse) {
  PassManagerOptions options;
  options.dump_dir = folder_ / "new" / "dump";
  PassManager manager(registry_, options);
  ASSERT_TRUE(manager.Run(graph_, context_, {"add-exp", "nothing"}).ok());
  ASSERT_TRUE(manager.Observe(graph_, "differentiate").ok());
  EXPECT_EQ(Read(folder_ / "new/dump/00-input.ir"), kText);
  EXPECT_EQ(Read(folder_ / "new/dump/01-add-exp.ir"), ir::Print(graph_));
  EXPECT_TRUE(fs::exists(folder_ / "new/dump/02-nothing.ir"));
  EXPECT_TRUE(ir::Parse(Read(folder_ / "new/dump/03-differentiate.ir")).ok());
}

TEST_F(Manager, AFolderThatCannotBeMadeIsUsage) {
  std::ofstream(folder_ / "file") << "x";
  PassManagerOptions options;
  options.dump_dir = folder_ / "file" / "dump";
  PassManager manager(registry_, options);
  const Status status = manager.Run(graph_, context_, {"nothing"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kUsage);
}

TEST_F(Manager, ABrokenGraphNamesThePassAndIsReproducible) {
  context_.ranks = 4;
  context_.strict = true;
  context_.strategy = "allgather-kv";
  PassManager manager(registry_, {});
  const Status status = manager.Run(graph_, context_, {"add-exp", "break", "add-sin"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kFailed);
  EXPECT_NE(status.error().what.find("after break"), std::string::npos);
  EXPECT_NE(status.error().what.find("output user 'y' is value 99, which does not exist"), std::string::npos);
  const std::string& hint = status.error().hint;
  const size_t command = hint.find("autospc-opt --ranks 4 --strategy allgather-kv --strict --break ");
  ASSERT_NE(command, std::string::npos) << hint;
  const fs::path file = hint.substr(hint.rfind(' ') + 1);
  const Result<ir::Graph> before = ir::Parse(Read(file));
  ASSERT_TRUE(before.ok()) << hint;
  EXPECT_EQ(before->nodes().size(), 2u);  // as it was after add-exp
  EXPECT_TRUE(Read(file).starts_with("# RUN: " + hint.substr(command)));
}

TEST_F(Manager, AnErrorOfTheInputLeavesNothingBehind) {
  PassManager manager(registry_, {});
  const Status status = manager.Run(graph_, context_, {"refuse"});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kUnsupported);
  EXPECT_EQ(status.error().hint, "leave out --strict");
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Manager, WithADumpFolderAnErrorOfTheInputIsReproducibleToo) {
  PassManagerOptions options;
  options.dump_dir = folder_ / "dump";
  PassManager manager(registry_, options);
  const Status status = manager.Run(graph_, context_, {"refuse"});
  ASSERT_FALSE(status.ok());
  EXPECT_TRUE(status.error().hint.starts_with("leave out --strict; to run the pass again: autospc-opt --refuse "))
      << status.error().hint;
  const Result<ir::Graph> before = ir::Parse(Read(folder_ / "dump/before-refuse.ir"));
  ASSERT_TRUE(before.ok());
  EXPECT_EQ(before->outputs.size(), 1u);
}

TEST_F(Manager, AMissingArgumentIsAnError) {
  registry_.Add({"misses", "", [](ir::Graph&, PassContext&) -> Result<bool> { return std::vector<int>().at(1) == 0; }});
  const Status ran = PassManager(registry_, {}).RunUnseen(graph_, context_, {"misses"});
  ASSERT_FALSE(ran.ok());
  EXPECT_EQ(ran.error().code, Code::kFailed);
  EXPECT_TRUE(ran.error().what.starts_with("pass 'misses' misses an argument of a node: ")) << ran.error().what;
}

TEST_F(Manager, PlacementsAreVerifiedUnlessSwitchedOff) {
  PassManagerOptions options;
  options.dump_dir = folder_;
  ir::Graph copy = graph_;
  const Status status = PassManager(registry_, options).Run(copy, context_, {"misplace"});
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().what.find("%y is P"), std::string::npos) << status.error().what;
  options.verify_placements = false;
  EXPECT_TRUE(PassManager(registry_, options).Run(graph_, context_, {"misplace"}).ok());
}

TEST_F(Manager, FlagsOfLeavesDefaultsOut) {
  EXPECT_TRUE(FlagsOf({}).empty());
  context_.clip_norm = 1;
  context_.optimizer = "adamw";
  EXPECT_EQ(FlagsOf(context_), (std::vector<std::string>{"--optimizer", "adamw", "--clip-norm", "1"}));
  PassContext budget;
  budget.memory_budget = 1 << 20;
  budget.recompute = "full";
  budget.tile_level = 2;
  budget.zero = 1;
  EXPECT_EQ(FlagsOf(budget), (std::vector<std::string>{"--zero", "1", "--tile-level", "2", "--memory-budget", "1048576",
                                                       "--recompute-rule", "full"}));
}

TEST_F(Manager, ADuplicatePassAborts) {
  EXPECT_DEATH(registry_.Add({"break", "", {}}), "pass 'break' is registered twice");
}

}  // namespace
}  // namespace autospc
