// Ranks that are killed, stopped, or fail by themselves: the job ends with the first cause, and nobody is left.
#include <fmt/format.h>

#include <functional>

#include "tests/e2e/job.h"

namespace autospc::e2e {
namespace {

constexpr char kManySteps[] = "1000000";

class FailingTest : public testing::Test {
 protected:
  // Starts a run of `ranks` and waits until it trains.
  void Start(int ranks, const Args& more = {}) {
    Args args = TrainArgs(ranks, {"--nproc-per-node", std::to_string(ranks), "--steps", kManySteps});
    args.insert(args.end(), more.begin(), more.end());
    job_ = std::make_unique<RunningJob>(args);
    ASSERT_TRUE(job_->WaitForStep(3)) << job_->Out() << job_->Err();
    ASSERT_EQ(job_->Children().size(), static_cast<size_t>(ranks));
  }
  static bool Until(const std::function<bool()>& come) {
    for (int i = 0; i < 6000 && !come(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return come();
  }
  // By step, as text; of a step that was taken twice the second time's.
  static std::map<int, std::string> LossesIn(const std::string& out) {
    const std::regex line(R"("step": (\d+),.*?"loss": ([^,}]+))");
    std::map<int, std::string> losses;
    for (std::sregex_iterator at(out.begin(), out.end(), line), end; at != end; ++at)
      losses[std::stoi((*at)[1])] = (*at)[2];
    return losses;
  }
  static bool Says(const Outcome& ended, const std::string& text) { return ended.err.find(text) != std::string::npos; }

  std::unique_ptr<RunningJob> job_;
};

TEST_F(FailingTest, AKilledRank) {
  for (const int victim : {0, 1}) {  // rank 0 holds the store
    Start(3);
    kill(job_->Children()[victim], SIGKILL);
    const Outcome ended = job_->Wait();
    EXPECT_EQ(ended.code, 7) << ended.err;
    EXPECT_TRUE(Says(ended, fmt::format("error: rank {} was ended by signal 9", victim))) << ended.err;
    // Every survivor names it, and what itself was at.
    for (const int survivor : {0, 1, 2}) {
      if (survivor == victim) continue;
      EXPECT_TRUE(Says(ended, fmt::format("[rank {}] error: rank {} is gone", survivor, victim))) << ended.err;
      EXPECT_TRUE(Says(ended, fmt::format("[rank {}]   at rank {}: step ", survivor, survivor))) << ended.err;
    }
    EXPECT_TRUE(job_->Left().empty());
  }
}

TEST_F(FailingTest, AStoppedRank) {
  Start(3, {"--heartbeat-timeout", "3"});
  kill(job_->Children()[1], SIGSTOP);
  const Outcome ended = job_->Wait();
  EXPECT_EQ(ended.code, 6) << ended.err;
  EXPECT_TRUE(Says(ended, "error: rank 1 was silent for")) << ended.err;
  EXPECT_TRUE(Says(ended, "it is stopped")) << ended.err;
  for (const int survivor : {0, 2}) {
    EXPECT_TRUE(Says(ended, fmt::format("[rank {}] error: rank 1 has been silent for 3 s", survivor))) << ended.err;
    // It waited for rank 1 in a collective of the model.
    EXPECT_TRUE(Says(ended, "(autosp.")) << ended.err;
    EXPECT_TRUE(Says(ended, ", in all-")) << ended.err;
  }
  EXPECT_TRUE(job_->Left().empty());
}

// The whole job is stopped for longer than the timeout and goes on: nobody was silent for anybody.
TEST_F(FailingTest, AJobThatSleptGoesOn) {
  Start(2, {"--heartbeat-timeout", "3"});
  kill(-job_->pid(), SIGSTOP);
  std::this_thread::sleep_for(std::chrono::milliseconds(4500));
  const size_t before = job_->Out().size();
  kill(-job_->pid(), SIGCONT);
  EXPECT_TRUE(Until([&] { return job_->Out().size() > before + 1000; })) << job_->Err();
  EXPECT_EQ(job_->Err().find("error"), std::string::npos) << job_->Err();
  kill(job_->pid(), SIGINT);
  EXPECT_EQ(job_->Wait().code, 130);
  EXPECT_TRUE(job_->Left().empty());
}

// A rank that fails by itself says why; the others name it instead of their lost connection.
TEST_F(FailingTest, AFullDisk) {
  const Args train = TrainArgs(2, {"--nproc-per-node", "2", "--write-golden", "/dev/full"});
  RunningJob job(train);
  const Outcome ended = job.Wait();
  EXPECT_EQ(ended.code, 1) << ended.err;
  EXPECT_TRUE(Says(ended, "[rank 0] error: ")) << ended.err;
  EXPECT_TRUE(Says(ended, "No space left on device")) << ended.err;
  EXPECT_TRUE(Says(ended, "[rank 1] error: rank 0 failed: ")) << ended.err;
  EXPECT_TRUE(Says(ended, "error: rank 0 failed first, with exit code 1")) << ended.err;
  EXPECT_TRUE(job.Left().empty());
}

// The losses of an uninterrupted run, also of the steps that were taken twice.
TEST_F(FailingTest, RestartsFromTheCheckpoint) {
  const TempFolder folder;
  const auto args = [&](const std::string& name) {
    return TrainArgs(2, {"--nproc-per-node", "2", "--steps", "40", "--json", "--restart", "2", "--checkpoint",
                         (folder / name).string(), "--checkpoint-every", "2"});
  };
  const Args whole = args("whole");
  const Outcome expected = Execute(whole);
  ASSERT_EQ(expected.code, 0) << Said(whole, expected);
  RunningJob job(args("killed"));
  ASSERT_TRUE(Until([&] { return job.Out().find("\"step\": 5,") != std::string::npos; })) << job.Err();
  const std::vector<pid_t> ranks = job.Children();
  ASSERT_EQ(ranks.size(), 2u) << job.Err();
  kill(ranks[1], SIGKILL);
  const Outcome ended = job.Wait(120);
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_TRUE(Says(ended, "start 1 of 2 again, from the checkpoint of step ")) << ended.err;
  const auto losses = LossesIn(ended.out);
  EXPECT_EQ(losses.size(), 40u);
  EXPECT_EQ(losses, LossesIn(expected.out));
  EXPECT_TRUE(job.Left().empty());
}

TEST_F(FailingTest, RestartsFromTheStart) {
  Start(2, {"--restart", "1"});
  kill(job_->Children()[0], SIGKILL);
  ASSERT_TRUE(Until([&] { return job_->Err().find("start 1 of 1 again") != std::string::npos; }));
  const size_t before = job_->Out().size();
  ASSERT_TRUE(Until([&] { return job_->Took(3, before); }));
  ASSERT_EQ(job_->Children().size(), 2u) << job_->Err();
  kill(job_->Children()[1], SIGKILL);
  const Outcome ended = job_->Wait();
  EXPECT_EQ(ended.code, 7) << ended.err;
  EXPECT_TRUE(Says(ended, "rank 0 was ended by signal 9")) << ended.err;
  EXPECT_TRUE(Says(ended, "start 1 of 1 again, from where it was started")) << ended.err;
  EXPECT_TRUE(Says(ended, "rank 1 was ended by signal 9")) << ended.err;
  EXPECT_TRUE(job_->Left().empty());
}

}  // namespace
}  // namespace autospc::e2e
