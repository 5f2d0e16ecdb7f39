// The launcher, with shell scripts as ranks.
#include "runtime/train/launcher.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <fstream>
#include <functional>
#include <thread>

#include "runtime/base/log.h"
#include "runtime/dist/network.h"
#include "runtime/train/memory_probe.h"

namespace autospc::train {
namespace {

struct Ran {
  int code = -1;
  std::string out, err;
};

std::string ReadAll(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

// Launches in a child, whose output and exit code are the job's. `after` may signal the child.
Ran LaunchScript(int ranks, const std::string& script, const std::function<void(pid_t)>& after = {},
                 const std::function<void(LaunchOptions*)>& change = {}) {
  char folder[] = "/tmp/autosp-launch-XXXXXX";
  if (mkdtemp(folder) == nullptr) return {};
  const std::string out = std::string(folder) + "/out", err = std::string(folder) + "/err";
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    LaunchOptions options;
    options.ranks = ranks;
    options.program = "/bin/sh";
    options.arguments = {"-c", script};
    options.environment = {{"GREETING", "hello"}};
    if (change) change(&options);
    const auto outcome = Launch(options);
    if (!outcome.ok()) LogError(outcome.error());
    _exit(outcome.ok() ? outcome->code : 99);
  }
  if (after) after(child);
  int status = 0;
  waitpid(child, &status, 0);
  Ran ran{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), ReadAll(out), ReadAll(err)};
  unlink(out.c_str());
  unlink(err.c_str());
  rmdir(folder);
  return ran;
}

TEST(LauncherTest, EveryRankKnowsItsPlaceAndIsHeard) {
  const Ran ran =
      LaunchScript(3, "echo \"$GREETING $RANK of $WORLD_SIZE at $MASTER_ADDR\"; echo e$LOCAL_RANK >&2; printf tail");
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.out.find("hello 0 of 3 at 127.0.0.1\n"), std::string::npos) << ran.out;
  EXPECT_EQ(ran.out.find("[rank 0]"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("[rank 2] hello 2 of 3"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("[rank 1] tail\n"), std::string::npos) << ran.out;
  EXPECT_NE(ran.err.find("[rank 0] e0\n"), std::string::npos) << ran.err;
}

TEST(LauncherTest, ARankThatFailsEndsTheJobWithItsCode) {
  const auto start = std::chrono::steady_clock::now();
  const Ran ran = LaunchScript(3, "if [ $RANK = 1 ]; then exit 3; fi; exec sleep 60");
  EXPECT_EQ(ran.code, 3);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

// A survivor may be the first to end, with "a peer failed"; the job's code is the cause's.
TEST(LauncherTest, TheCauseWinsOverALostPeer) {
  EXPECT_EQ(LaunchScript(2, "if [ $RANK = 0 ]; then exit 7; fi; sleep 0.4; exit 4").code, 4);
  EXPECT_EQ(LaunchScript(2, "if [ $RANK = 0 ]; then exit 7; fi; exec sleep 60").code, 7);
}

TEST(LauncherTest, ARankEndedByASignalIsNamed) {
  const Ran ran = LaunchScript(2, "if [ $RANK = 1 ]; then kill -9 $$; fi; exec sleep 60");
  EXPECT_EQ(ran.code, static_cast<int>(Code::kPeerFailed));
  EXPECT_NE(ran.err.find("rank 1 was ended by signal 9"), std::string::npos) << ran.err;
}

TEST(LauncherTest, ATerminalsInterruptOfARankIsNoFailure) {
  EXPECT_EQ(LaunchScript(2, "if [ $RANK = 1 ]; then kill -INT $$; fi; exec sleep 60").code, 130);
}

// The launcher of the second of two machines.
TEST(LauncherTest, RanksOfOneOfSeveralMachines) {
  const Ran ran =
      LaunchScript(2, "echo $RANK of $WORLD_SIZE, $LOCAL_RANK of $LOCAL_WORLD_SIZE, $MASTER_ADDR:$MASTER_PORT", {},
                   [](LaunchOptions* options) {
                     options->nodes = 3;
                     options->node = 1;
                     options->master_address = "node0";
                     options->master_port = 4711;
                   });
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_NE(ran.out.find("[rank 2] 2 of 6, 0 of 2, node0:4711\n"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("[rank 3] 3 of 6, 1 of 2, node0:4711\n"), std::string::npos) << ran.out;
}

TEST(LauncherTest, APortThatIsTakenIsSaidBeforeAnythingStarts) {
  const auto taken = Listen("", 0);
  ASSERT_TRUE(taken.ok());
  const Ran ran = LaunchScript(1, "echo started", {}, [&](LaunchOptions* options) {
    options->nodes = 2;
    options->master_address = "node0";
    options->master_port = taken->second;
  });
  EXPECT_EQ(ran.code, 99);
  EXPECT_NE(ran.err.find("can't listen"), std::string::npos) << ran.err;
  EXPECT_EQ(ran.out, "");
}

TEST(LauncherTest, SignalsForACheckpointArePassedOn) {
  for (const int signal : {SIGTERM, SIGUSR1}) {
    const Ran ran = LaunchScript(
        2, "trap 'echo saved $RANK; exit 0' TERM USR1; echo ready; for i in $(seq 600); do sleep 0.1; done",
        [&](pid_t job) {
          std::this_thread::sleep_for(std::chrono::milliseconds(300));
          kill(job, signal);
        },
        [](LaunchOptions* options) { options->pass_signals_on = true; });
    EXPECT_EQ(ran.code, 0) << ran.err;
    EXPECT_NE(ran.out.find("saved 0"), std::string::npos) << ran.out;
    EXPECT_NE(ran.out.find("saved 1"), std::string::npos) << ran.out;
  }
}

TEST(LauncherTest, InterruptedMeans130AndNobodyIsLeft) {
  char path[] = "/tmp/autosp-pids-XXXXXX";
  close(mkstemp(path));
  const std::string script = std::string("echo $$ >> ") + path + "; exec sleep 60";
  const auto wait_for_two = [&] {
    for (int i = 0; i < 500; ++i) {
      const std::string pids = ReadAll(path);
      if (std::count(pids.begin(), pids.end(), '\n') == 2) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  };
  const auto nobody_left = [&] {
    std::ifstream pids(path);
    bool none = true;
    for (pid_t pid; pids >> pid;) {
      for (int i = 0; i < 300 && kill(pid, 0) == 0; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
      none = none && kill(pid, 0) != 0;
    }
    return none;
  };
  EXPECT_EQ(LaunchScript(2, script,
                         [&](pid_t job) {
                           wait_for_two();
                           kill(job, SIGINT);
                         })
                .code,
            130);
  EXPECT_TRUE(nobody_left());
  std::ofstream(path, std::ios::trunc).flush();
  // Even a launcher that is killed takes its ranks with it.
  EXPECT_EQ(LaunchScript(2, script,
                         [&](pid_t job) {
                           wait_for_two();
                           kill(job, SIGKILL);
                         })
                .code,
            128 + SIGKILL);
  EXPECT_TRUE(nobody_left());
  unlink(path);
}

TEST(MemoryProbeTest, SeesAPeakAndItsReset) {
  const auto before = ReadProcessMemory();
  ASSERT_TRUE(before.ok()) << before.error().Format();
  EXPECT_GT(before->resident, 1 << 20);
  constexpr int64_t kBytes = 64 << 20;
  {
    std::vector<char> touched(kBytes, 1);
    EXPECT_EQ(touched[kBytes / 2], 1);
  }
  const auto after = ReadProcessMemory();
  ASSERT_TRUE(after.ok());
  EXPECT_GE(after->peak_resident, before->resident + kBytes / 2);
  ASSERT_TRUE(ResetPeakResident().ok());
  EXPECT_LT(ReadProcessMemory()->peak_resident, after->peak_resident - kBytes / 2);
}

TEST(MemoryProbeTest, TheLimitHolds) {
  const pid_t child = fork();
  if (child == 0) {
    if (!LimitDataGrowth(16 << 20).ok()) _exit(2);
    void* small = malloc(4 << 20);
    void* large = malloc(64 << 20);
    _exit(small != nullptr && large == nullptr ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

}  // namespace
}  // namespace autospc::train
