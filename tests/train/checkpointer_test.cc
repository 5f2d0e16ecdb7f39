// Checkpoints beside steps, and runs that go on from them: at other numbers of ranks, other shards, other types.
#include "runtime/train/checkpointer.h"

#include <ATen/ops/equal.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <tuple>

#include "runtime/base/log.h"
#include "runtime/checkpoint/folder.h"
#include "runtime/checkpoint/read.h"
#include "runtime/train/restore.h"
#include "runtime/train/stop_signal.h"
#include "tests/package/temp_folder.h"
#include "tests/train/training_state.h"

namespace autospc::train {
namespace {

namespace fs = std::filesystem;

StepRecord Record(int64_t step) {
  StepRecord record;
  record.step = step;
  return record;
}

// Steps from the beginning or from what `resume` names, with checkpoints in `dir`; parameters at the end in `out`.
struct Training {
  int ranks = 1;
  bool blocks = false;
  std::vector<Parameter> parameters = TwoParameters();
  bool adam = true;
  CheckpointOptions options;
  int64_t steps = 6;
  std::vector<std::string> wanted = {"w", "b"};
  std::vector<at::Tensor> out = {};
  double dropout = 0;
  uint64_t seed = 7;
  int64_t began_at = -1;
  std::string data = {};

  Status Do() {
    const ProgramBuilder builder = UpdateProgram(ranks, blocks, parameters, adam, dropout);
    return OnRanks(builder, ranks, [&](Executor& e, Communicator* communicator) -> Status {
      Begin(e);
      ASSIGN_OR_RETURN(const auto resumed, ChooseCheckpoint(options.resume, options.dir, e.program(), communicator));
      if (resumed) RETURN_IF_ERROR(Restore(*resumed, &e));
      if (communicator->rank() == 0) began_at = e.steps();
      if (communicator->rank() == 0 && resumed) data = resumed->manifest().data;
      std::unique_ptr<Checkpointer> checkpointer;
      checkpoint::Manifest header;
      header.seed = seed;
      header.optimizer = e.program().optimizer;
      header.step = e.steps();
      if (!options.dir.empty()) {
        ASSIGN_OR_RETURN(checkpointer, Checkpointer::Make(options, &e, communicator, header,
                                                          [&] { return fmt::format("{{\"sample\":{}}}", e.steps() * 10); }));
      }
      while (e.steps() < steps) {
        RETURN_IF_ERROR(UpdateOnce(e));
        if (checkpointer) RETURN_IF_ERROR(checkpointer->OnStep(Record(e.steps())));
        if (checkpointer && checkpointer->stopping()) break;
      }
      if (checkpointer) RETURN_IF_ERROR(checkpointer->OnEnd());
      if (communicator->rank() == 0) {
        for (const std::string& name : wanted) out.push_back(Named(e, name).clone());
      }
      return Ok();
    }, seed);
  }
};

std::vector<at::Tensor> Parameters(Training run) {
  const Status done = run.Do();
  EXPECT_TRUE(done.ok()) << done.error().Format();
  return run.out;
}

void ExpectSame(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << i;
}

// What a run says goes to stderr: caught where a test asks for it.
class Said {
 public:
  Said() {
    file_ = std::tmpfile();
    LogOptions options = DefaultLogOptions();
    options.sink = file_;
    SetLogOptions(options);
  }
  ~Said() {
    SetLogOptions(DefaultLogOptions());
    std::fclose(file_);
  }
  std::string Text() {
    std::rewind(file_);
    std::string text;
    for (int c; (c = std::fgetc(file_)) != EOF;) text += static_cast<char>(c);
    return text;
  }

 private:
  std::FILE* file_;
};

using Way = std::pair<int, bool>;  // ranks, ZeRO
const std::vector<Way> kWays = {{1, false}, {2, false}, {4, false}, {8, false}, {2, true}, {4, true}, {8, true}};

// The update is elementwise, so every number of ranks computes the same bits: any deviation is the checkpoint's.
TEST(CheckpointerTest, WhatOneWayWroteEveryOtherGoesOnFrom) {
  const std::vector<at::Tensor> uninterrupted = Parameters({.steps = 6});
  const std::vector<at::Tensor> at_four = Parameters({.steps = 4});
  for (const auto& [ranks, blocks] : kWays) {
    TempFolder folder;
    Training writer{.ranks = ranks, .blocks = blocks};
    writer.options.dir = folder / "c";
    writer.options.every = 2;
    writer.steps = 5;
    const Status wrote = writer.Do();
    ASSERT_TRUE(wrote.ok()) << wrote.error().Format();
    const auto listed = checkpoint::ListCheckpoints(folder / "c");
    ASSERT_EQ(listed->size(), 3u) << "steps 2 and 4, and 5 at the end";
    const std::string four = folder / "c/step-00000004";
    for (const auto& [other_ranks, other_blocks] : kWays) {
      SCOPED_TRACE(fmt::format("{} ranks{} -> {} ranks{}", ranks, blocks ? " zero" : "", other_ranks, other_blocks ? " zero" : ""));
      Training reader{.ranks = other_ranks, .blocks = other_blocks};
      reader.options.resume = four;
      reader.steps = 4;
      ExpectSame(Parameters(reader), at_four);
      reader.steps = 6;
      const Status done = reader.Do();
      ASSERT_TRUE(done.ok()) << done.error().Format();
      EXPECT_EQ(reader.began_at, 4);
      EXPECT_EQ(reader.data, R"({"sample":40})");
      ExpectSame(reader.out, uninterrupted);
    }
  }
}

TEST(CheckpointerTest, SixteenBitParametersKeepTheirMasters) {
  const auto narrow = TwoParameters(at::kBFloat16);
  for (const auto& [ranks, blocks] : {Way{1, false}, {4, true}}) {
    TempFolder folder;
    Training writer{.ranks = ranks, .blocks = blocks, .parameters = narrow};
    writer.options.dir = folder / "c";
    writer.steps = 3;
    ASSERT_TRUE(writer.Do().ok());
    Training same{.ranks = 2, .blocks = true, .parameters = narrow};
    same.options.resume = folder / "c";
    ExpectSame(Parameters(same), Parameters({.parameters = narrow}));
    // A float32 package of the model takes the masters, one in bfloat16 makes masters of float32 parameters.
    Training wide{.ranks = 1};
    wide.options.resume = folder / "c";
    wide.steps = 3;
    Training masters{.ranks = 1, .parameters = narrow, .steps = 3, .wanted = {"w.master", "b.master"}};
    const auto expected = Parameters(masters);
    ExpectSame(Parameters(wide), expected);
    Training back{.ranks = 1};
    back.options.dir = folder / "wide";
    back.options.resume = folder / "c";
    back.steps = 4;
    const auto at_four = Parameters(back);
    Training again{.ranks = 1, .parameters = narrow, .steps = 4, .wanted = {"w.master", "b.master"}};
    again.options.resume = folder / "wide";
    ExpectSame(Parameters(again), at_four);
  }
}

// A step's masks come from the seed and the count of steps, which the checkpoint brings back.
TEST(CheckpointerTest, DropoutGoesOnWithTheSameMasks) {
  TempFolder folder;
  Training writer{.ranks = 2, .steps = 3, .dropout = 0.4};
  writer.options.dir = folder / "c";
  const auto at_three = Parameters(writer);
  const auto uninterrupted = Parameters({.ranks = 1, .steps = 6, .dropout = 0.4});
  EXPECT_FALSE(at::equal(uninterrupted[0], Parameters({.steps = 6, .dropout = 0.4, .seed = 8})[0]));
  const auto reader = checkpoint::Reader::Open(folder / "c/step-00000003");
  ASSERT_TRUE(reader.ok());
  Training rest{.ranks = 4, .steps = 6, .dropout = 0.4, .seed = reader->manifest().seed};
  rest.options.resume = folder / "c";
  ExpectSame(Parameters(rest), uninterrupted);
}

std::string Why(Training run) {
  const Status done = run.Do();
  EXPECT_FALSE(done.ok());
  return done.ok() ? "" : done.error().Format();
}

TEST(CheckpointerTest, AnotherModelOrOptimiserIsSaid) {
  TempFolder folder;
  Training writer{.ranks = 2};
  writer.options.dir = folder / "c";
  writer.steps = 1;
  ASSERT_TRUE(writer.Do().ok());
  Training other{.ranks = 2, .parameters = {{"w", {7, 32}}, {"v", {5}}, {"u", {2}}}};
  other.options.resume = folder / "c";
  const std::string why = Why(other);
  for (const char* part : {"another model", "2 missing:", "v f32 [5]", "u f32 [2]",
                           "w: f32 [7, 32] is wanted, the checkpoint holds f32 [7, 33]", "1 that nobody wants:\n    b"})
    EXPECT_NE(why.find(part), std::string::npos) << part << "\n" << why;
  EXPECT_EQ(CheckResume(folder / "c", "", UpdateProgram(2, false, other.parameters).program()).error().Format(), why)
      << "before ranks start, in the same words";
  Training sgd{.ranks = 2, .adam = false};
  sgd.options.dir = folder / "sgd";
  sgd.options.resume = folder / "c";
  sgd.steps = 2;
  ASSERT_TRUE(sgd.Do().ok()) << "an optimiser without states wants none";
  Training adam{.ranks = 1};
  adam.options.resume = folder / "sgd";
  const std::string lacks = Why(adam);
  EXPECT_NE(lacks.find("made with --optimizer sgd"), std::string::npos) << lacks;
  EXPECT_NE(lacks.find("w.exp_avg f32 [7, 33]"), std::string::npos) << lacks;
  EXPECT_NE(lacks.find("--weights"), std::string::npos) << lacks;
}

// A tie's other name, as another export of the model has it.
TEST(CheckpointerTest, TiedNamesAreOne) {
  TempFolder folder;
  Training writer;
  writer.options.dir = folder / "c";
  writer.steps = 1;
  ASSERT_TRUE(writer.Do().ok());
  const auto reader = checkpoint::Reader::Open(folder / "c/step-00000001");
  ASSERT_TRUE(reader.ok());
  ProgramBuilder b = UpdateProgram(1, false, {{"head", {7, 33}}, {"b", {5}}});
  EXPECT_FALSE(CheckRestore(*reader, b.program()).ok());
  b.program().aliases = {"head", "w"};
  const Status fits = CheckRestore(*reader, b.program());
  EXPECT_TRUE(fits.ok()) << fits.error().Format();
}

void Flip(const std::string& file) {
  std::string content = Slurp(file);
  content[content.size() / 2] = static_cast<char>(content[content.size() / 2] ^ 1);
  Spill(file, content);
}

TEST(CheckpointerTest, DamagedOnesAreSkippedWithAWarning) {
  TempFolder folder;
  Training writer{.ranks = 4, .blocks = true};
  writer.options.dir = folder / "c";
  writer.options.every = 1;
  writer.options.keep = 0;
  ASSERT_TRUE(writer.Do().ok());
  const auto at = [&](int step) { return folder / fmt::format("c/step-{:08}", step); };
  Flip(at(6) + "/optimizer-00003-of-00004.safetensors");  // only one rank reads all of it
  fs::resize_file(at(5) + "/model-00001-of-00004.safetensors", 100);
  fs::remove(at(4) + "/manifest.json");
  for (const int ranks : {1, 3}) {
    Said said;
    Training reader{.ranks = ranks};
    reader.options.resume = folder / "c";
    ExpectSame(Parameters(reader), Parameters({}));
    const std::string text = said.Text();
    for (const char* part : {"warning: skipped the checkpoint", "step-00000006: the file has changed", "step-00000005: the file has 100 bytes",
                             "step-00000004: the checkpoint has no manifest.json"})
      EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
  }
  Training chosen{.ranks = 3};
  chosen.options.resume = at(6);
  EXPECT_NE(Why(chosen).find("its sha256 is another"), std::string::npos);
  for (int step : {1, 2, 3}) fs::remove(at(step) + "/manifest.json");
  Training none{.ranks = 3};
  none.options.resume = folder / "c";
  EXPECT_NE(Why(none).find("no checkpoint here is whole"), std::string::npos);
}

TEST(CheckpointerTest, AutoBeginsWhereThereIsNothingAndGoesOnWhereThereIs) {
  TempFolder folder;
  Training run{.ranks = 2, .blocks = true};
  run.options.dir = folder / "c";
  run.options.resume = "auto";
  run.steps = 3;
  ASSERT_TRUE(run.Do().ok());
  EXPECT_EQ(run.began_at, 0);
  run.steps = 6;
  run.out.clear();
  ASSERT_TRUE(run.Do().ok());
  EXPECT_EQ(run.began_at, 3);
  ExpectSame(run.out, Parameters({}));
}

TEST(CheckpointerTest, LaterCheckpointsOfAnotherRunAreNotMixedIn) {
  TempFolder folder;
  Training run;
  run.options.dir = folder / "c";
  run.steps = 4;
  ASSERT_TRUE(run.Do().ok());
  EXPECT_TRUE(CheckCheckpointFolder(run.options, 4).ok());
  const Status refused = CheckCheckpointFolder(run.options, 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::kUsage);
  EXPECT_NE(refused.error().what.find("checkpoint of step 4, and this run begins at step 0"), std::string::npos);
  EXPECT_NE(refused.error().hint.find("--resume auto"), std::string::npos);
}

// In a process of its own: signals and limits are the whole process's.
int InChild(const std::function<int()>& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(CheckpointerTest, ASignalWritesOneAndStopsEveryRank) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    TempFolder folder;
    EXPECT_EQ(InChild([&] {
                CatchStopSignals();
                Training run{.ranks = 3, .blocks = true, .steps = 1000000};
                run.options.dir = folder / "c";
                std::thread later([&] {
                  usleep(50000);
                  kill(getpid(), signal);
                });
                const Status done = run.Do();
                later.join();
                return done.ok() && StopSignal() == signal ? 0 : 1;
              }),
              0);
    const auto listed = checkpoint::ListCheckpoints(folder / "c");
    ASSERT_TRUE(listed.ok());
    ASSERT_EQ(listed->size(), 1u);
    Training reader{.steps = (*listed)[0].step + 1};
    reader.options.resume = folder / "c";
    EXPECT_TRUE(reader.Do().ok());
    EXPECT_EQ(reader.began_at, (*listed)[0].step);
    EXPECT_LT(reader.began_at, 1000000);
  }
}

// Files may not grow beyond a limit, which stands for a disk that is full: the rank whose part does not fit says so.
TEST(CheckpointerTest, AFullDiskEndsTheRunAndLeavesTheOlderOne) {
  TempFolder folder;
  Training first{.ranks = 2, .steps = 3};
  first.options.dir = folder / "c";
  ASSERT_TRUE(first.Do().ok());
  const std::string error = folder / "error";
  EXPECT_EQ(InChild([&] {
              CatchStopSignals();
              const rlimit limit{600, 600};
              Training run{.ranks = 2, .steps = 6};
              run.options.dir = run.options.resume = folder / "c";
              run.options.every = 1;
              std::ofstream out(error);
              setrlimit(RLIMIT_FSIZE, &limit);
              const Status done = run.Do();
              if (done.ok()) return 1;
              out << done.error().Format().substr(0, 500);
              return static_cast<int>(done.error().code) + 100;
            }),
            101);
  const std::string said = Slurp(error);
  EXPECT_NE(said.find("the checkpoint of step 4 could not be written: cannot write: File too large"), std::string::npos) << said;
  EXPECT_NE(said.find("the checkpoint of step 3 is whole: go on from it with --resume"), std::string::npos) << said;
  Training reader;
  reader.options.resume = folder / "c";
  ExpectSame(Parameters(reader), Parameters({}));
  EXPECT_EQ(checkpoint::ListCheckpoints(folder / "c")->size(), 1u);
}

// Whenever a run is killed, what has the name of a checkpoint is one.
TEST(CheckpointerTest, KilledAtAnyTimeTheNewestIsWhole) {
  TempFolder folder;
  int64_t latest = 0;
  for (int i = 0; i < 12; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      Training run{.ranks = 2, .blocks = true, .steps = 1000000};
      run.options.dir = folder / "c";
      run.options.resume = "auto";
      run.options.every = 1;
      run.options.keep = 2;
      run.Do().ok();
      _exit(0);
    }
    usleep(30000 + 7001 * i);
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    const auto listed = checkpoint::ListCheckpoints(folder / "c");
    ASSERT_TRUE(listed.ok());
    for (const auto& one : *listed) {
      const auto reader = checkpoint::Reader::Open(one.path);
      ASSERT_TRUE(reader.ok()) << reader.error().Format();
      for (size_t f = 0; f < reader->manifest().files.size(); ++f) ASSERT_TRUE(reader->Verify(f).ok());
    }
    if (!listed->empty()) latest = (*listed)[0].step;
  }
  EXPECT_GT(latest, 0);
  Training reader{.steps = latest};
  reader.options.resume = folder / "c";
  ExpectSame(Parameters(reader), Parameters({.steps = latest}));
}

}  // namespace
}  // namespace autospc::train
