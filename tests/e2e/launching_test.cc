// The ways to start ranks: our launcher on one and several machines, and the environments of others.
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "tests/e2e/job.h"

namespace autospc::e2e {
namespace {

int FreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  socklen_t length = sizeof(address);
  bind(fd, reinterpret_cast<sockaddr*>(&address), length);
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  close(fd);
  return ntohs(address.sin_port);
}

class LaunchingTest : public testing::Test {
 protected:
  Args Train(int ranks, const Args& more) {
    Args args = TrainArgs(ranks, {"--steps", "2"});
    args.insert(args.end(), more.begin(), more.end());
    return args;
  }
  static void ExpectTrained(RunningJob& job) {
    const Outcome ended = job.Wait(120);
    EXPECT_EQ(ended.code, 0) << ended.All();
    EXPECT_TRUE(job.Took(2)) << ended.All();
  }
};

// As srun sets them; each rank is a process that nobody of ours has started.
TEST_F(LaunchingTest, SlurmsEnvironment) {
  const Args args = Train(2, {});
  std::vector<std::unique_ptr<RunningJob>> ranks;
  for (const char* rank : {"0", "1"}) {
    ranks.push_back(std::make_unique<RunningJob>(args, Variables{{"SLURM_PROCID", rank},
                                                                 {"SLURM_LOCALID", rank},
                                                                 {"SLURM_NTASKS", "2"},
                                                                 {"SLURM_NNODES", "1"},
                                                                 {"SLURM_STEP_ID", "0"},
                                                                 {"SLURM_NODEID", "0"},
                                                                 {"SLURM_TASKS_PER_NODE", "2"},
                                                                 {"SLURM_JOB_NODELIST", "node[1-1]"},
                                                                 {"SLURM_JOB_ID", std::to_string(getpid())}}));
  }
  ExpectTrained(*ranks[0]);
  EXPECT_EQ(ranks[1]->Wait().code, 0);
}

TEST_F(LaunchingTest, TwoLaunchersAsTwoMachines) {
  const std::string endpoint = fmt::format("127.0.0.1:{}", FreePort());
  std::vector<std::unique_ptr<RunningJob>> machines;
  const Args args = Train(4, {"--nproc-per-node", "2", "--nnodes", "2", "--rdzv-endpoint", endpoint});
  for (const char* machine : {"1", "0"}) {
    Args mine = args;
    mine.insert(mine.end(), {"--node-rank", machine});
    machines.push_back(std::make_unique<RunningJob>(mine));
  }
  ExpectTrained(*machines[1]);
  EXPECT_EQ(machines[0]->Wait().code, 0) << machines[0]->Err();
}

// A rank dies on one machine: both launchers end, the other one names it.
TEST_F(LaunchingTest, TheOtherMachineNamesTheCause) {
  const std::string endpoint = fmt::format("127.0.0.1:{}", FreePort());
  std::vector<std::unique_ptr<RunningJob>> machines;
  for (const char* machine : {"0", "1"}) {
    machines.push_back(
        std::make_unique<RunningJob>(TrainArgs(2, {"--steps", "1000000", "--nproc-per-node", "1", "--nnodes", "2",
                                                   "--rdzv-endpoint", endpoint, "--node-rank", machine})));
  }
  ASSERT_TRUE(machines[0]->WaitForStep(3)) << machines[0]->Err();
  ASSERT_EQ(machines[1]->Children().size(), 1u);
  kill(machines[1]->Children()[0], SIGKILL);
  const Outcome here = machines[1]->Wait(), there = machines[0]->Wait();
  EXPECT_EQ(here.code, 7) << here.err;
  EXPECT_NE(here.err.find("error: rank 1 was ended by signal 9"), std::string::npos) << here.err;
  EXPECT_EQ(there.code, 7) << there.err;
  EXPECT_NE(there.err.find("error: rank 1 failed first, on another machine"), std::string::npos) << there.err;
}

// Two ranks that were not given the same flags.
TEST_F(LaunchingTest, MismatchedFlagsAreBadInput) {
  const Args args = Train(2, {});
  const std::string port = std::to_string(FreePort());
  std::vector<std::unique_ptr<RunningJob>> ranks;
  for (const char* rank : {"0", "1"}) {
    Args mine = args;
    mine.insert(mine.end(), {"--seed", rank});
    ranks.push_back(std::make_unique<RunningJob>(
        mine, Variables{{"RANK", rank}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port}}));
  }
  for (const auto& rank : ranks) {
    const Outcome ended = rank->Wait();
    EXPECT_EQ(ended.code, 3) << ended.err;
    EXPECT_NE(ended.err.find("rank 1 does not run what rank 0 runs: --seed: 1 on rank 1, 0 on rank 0"),
              std::string::npos)
        << ended.err;
  }
}

TEST_F(LaunchingTest, ALauncherWithinARankIsUsage) {
  const Args args = {"autosp-run", "nowhere", "--golden", "nothing", "--nproc-per-node", "2"};
  RunningJob job(args, {{"RANK", "0"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}});
  const Outcome ended = job.Wait();
  EXPECT_EQ(ended.code, 2) << Said(args, ended);
  EXPECT_NE(ended.err.find("torchrun has started this process as rank 0 of 2"), std::string::npos) << Said(args, ended);
}

// torchrun of a Python with PyTorch, where there is one.
fs::path Torchrun() {
  if (const char* python = std::getenv("AUTOSPC_PYTHON")) return fs::path(python).parent_path() / "torchrun";
  return fs::path(AUTOSPC_BIN_DIR).parent_path() / "pyvenv" / "bin" / "torchrun";
}

TEST_F(LaunchingTest, UnderTorchrun) {
  const fs::path torchrun = Torchrun();
  if (!fs::exists(torchrun))
    GTEST_SKIP() << "no Python with PyTorch: $AUTOSPC_PYTHON names none, and the build has none";
  Args args = {torchrun.string(),
               "--no-python",
               "--nproc-per-node",
               "2",
               "--master-port",
               std::to_string(FreePort()),
               AUTOSPC_BIN_DIR "/autosp-run"};
  const Args train = Train(2, {});
  args.insert(args.end(), train.begin() + 1, train.end());
  RunningJob job(args);
  ExpectTrained(job);
}

// Two network namespaces joined by a cable, as two machines: each has its own loopback interface.
class NamespacesTest : public LaunchingTest {
 protected:
  static bool Run(const std::string& command) { return std::system((command + " >/dev/null 2>&1").c_str()) == 0; }
  void SetUp() override {
    const std::string id = std::to_string(getpid() % 10000);
    names_ = {"asA" + id, "asB" + id};
    made_ = Run("ip netns add " + names_[0]) && Run("ip netns add " + names_[1]) &&
            Run(fmt::format("ip link add v{0} netns {0} type veth peer name v{1} netns {1}", names_[0], names_[1]));
    for (int i = 0; i < 2 && made_; ++i) {
      const std::string in = "ip -n " + names_[i] + " ";
      made_ = Run(fmt::format("{}addr add 10.213.7.{}/24 dev v{}", in, i + 1, names_[i])) &&
              Run(fmt::format("{}link set v{} up", in, names_[i])) && Run(in + "link set lo up");
    }
  }
  void TearDown() override {
    for (const std::string& name : names_) Run("ip netns del " + name);
  }
  Args On(int machine, const Args& args) const {
    Args all = {"/bin/sh", "-c", "exec ip netns exec \"$@\"", "sh", names_[machine], AUTOSPC_BIN_DIR "/autosp-run"};
    all.insert(all.end(), args.begin() + 1, args.end());
    return all;
  }

  std::vector<std::string> names_;
  bool made_ = false;
};

TEST_F(NamespacesTest, TwoNodes) {
  if (!made_) GTEST_SKIP() << "this user can't make network namespaces (ip netns add)";
  const Args args = Train(4, {"--nproc-per-node", "2", "--nnodes", "2", "--rdzv-endpoint", "10.213.7.1:29511"});
  std::vector<std::unique_ptr<RunningJob>> machines;
  for (int machine : {0, 1}) {
    Args mine = args;
    mine.insert(mine.end(), {"--node-rank", std::to_string(machine)});
    machines.push_back(std::make_unique<RunningJob>(On(machine, mine)));
  }
  ExpectTrained(*machines[0]);
  EXPECT_EQ(machines[1]->Wait().code, 0) << machines[1]->Err();
}

// The cable is pulled: each side misses the other, and none is told by a closed connection.
TEST_F(NamespacesTest, ALostNetworkIsSilence) {
  if (!made_) GTEST_SKIP() << "this user can't make network namespaces (ip netns add)";
  const Args args = TrainArgs(2, {"--steps", "1000000", "--nproc-per-node", "1", "--nnodes", "2", "--rdzv-endpoint",
                                  "10.213.7.1:29512", "--heartbeat-timeout", "3"});
  std::vector<std::unique_ptr<RunningJob>> machines;
  for (int machine : {0, 1}) {
    Args mine = args;
    mine.insert(mine.end(), {"--node-rank", std::to_string(machine)});
    machines.push_back(std::make_unique<RunningJob>(On(machine, mine)));
  }
  ASSERT_TRUE(machines[0]->WaitForStep(3)) << machines[0]->Err();
  ASSERT_TRUE(Run("ip -n " + names_[1] + " link set v" + names_[1] + " down"));
  for (int machine : {0, 1}) {
    const Outcome ended = machines[machine]->Wait();
    EXPECT_EQ(ended.code, 6) << ended.err;
    EXPECT_NE(ended.err.find(fmt::format("rank {} has been silent", 1 - machine)), std::string::npos) << ended.err;
  }
}

}  // namespace
}  // namespace autospc::e2e
