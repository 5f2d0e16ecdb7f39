// Where a rank learns its place: the variables of each launcher.
#include "runtime/dist/environment.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace autospc {
namespace {

class EnvironmentTest : public testing::Test {
 protected:
  void SetUp() override { Clear(); }
  void TearDown() override { Clear(); }

  void Clear() {
    std::vector<std::string> names;
    for (char** e = environ; *e != nullptr; ++e) {
      const std::string name = std::string(*e).substr(0, std::string(*e).find('='));
      for (const char* prefix :
           {"RANK", "WORLD_SIZE", "LOCAL_", "MASTER_", "SLURM_", "OMPI_", "PMIX_", "AUTOSP_", "TORCHELASTIC_"}) {
        if (name.starts_with(prefix)) names.push_back(name);
      }
    }
    for (const std::string& name : names) unsetenv(name.c_str());
  }

  RankEnvironment Read(const std::map<std::string, std::string>& variables) {
    Clear();
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    const auto environment = ReadRankEnvironment();
    if (!environment.ok()) {
      ADD_FAILURE() << environment.error().Format();
      return {};
    }
    EXPECT_TRUE(environment->has_value());
    return environment->value_or(RankEnvironment{});
  }

  Error Refused(const std::map<std::string, std::string>& variables) {
    Clear();
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
    const auto environment = ReadRankEnvironment();
    if (environment.ok()) {
      ADD_FAILURE() << "it was accepted";
      return {};
    }
    EXPECT_EQ(environment.error().code, Code::kUsage);
    return environment.error();
  }
};

TEST_F(EnvironmentTest, NothingSetIsARankOfItsOwn) {
  const auto environment = ReadRankEnvironment();
  ASSERT_TRUE(environment.ok());
  EXPECT_FALSE(environment->has_value());
}

TEST_F(EnvironmentTest, Torchrun) {
  const RankEnvironment e = Read({{"RANK", "5"},
                                  {"WORLD_SIZE", "8"},
                                  {"LOCAL_RANK", "1"},
                                  {"LOCAL_WORLD_SIZE", "4"},
                                  {"MASTER_ADDR", "node0"},
                                  {"MASTER_PORT", "4711"},
                                  {"TORCHELASTIC_USE_AGENT_STORE", "True"},
                                  {"TORCHELASTIC_RESTART_COUNT", "2"},
                                  {"TORCHELASTIC_RUN_ID", "night"},
                                  {"SLURM_PROCID", "0"},  // torchrun within an allocation
                                  {"SLURM_NTASKS", "2"}});
  EXPECT_EQ(e.launcher, "torchrun");
  EXPECT_EQ(e.rank, 5);
  EXPECT_EQ(e.world_size, 8);
  EXPECT_EQ(e.local_rank, 1);
  EXPECT_EQ(e.local_size, 4);
  EXPECT_EQ(e.master_address, "node0");
  EXPECT_EQ(e.master_port, 4711);
  EXPECT_TRUE(e.store_exists);
  EXPECT_EQ(e.store_prefix, "/worker/attempt_2/night");
}

TEST_F(EnvironmentTest, OwnLauncherIsNoAgent) {
  const RankEnvironment e = Read({{"RANK", "0"},
                                  {"WORLD_SIZE", "2"},
                                  {"MASTER_ADDR", "127.0.0.1"},
                                  {"AUTOSP_LAUNCHED", "1"},
                                  {"AUTOSP_ATTEMPT", "3"},
                                  {"AUTOSP_LISTEN_FD", "9"}});
  EXPECT_EQ(e.launcher, "autosp-run");
  EXPECT_EQ(e.attempt, 3);
  EXPECT_EQ(e.listen_fd, 9);
  EXPECT_EQ(e.master_port, 29500);
  EXPECT_FALSE(e.store_exists);
}

// As srun sets them on the second of three nodes.
TEST_F(EnvironmentTest, SlurmOverNodes) {
  std::map<std::string, std::string> variables = {{"SLURM_PROCID", "3"},
                                                  {"SLURM_NTASKS", "7"},
                                                  {"SLURM_LOCALID", "1"},
                                                  {"SLURM_NODEID", "1"},
                                                  {"SLURM_NNODES", "3"},
                                                  {"SLURM_TASKS_PER_NODE", "2(x2),3"},
                                                  {"SLURM_JOB_ID", "1234"},
                                                  {"SLURM_STEP_ID", "0"},
                                                  {"SLURM_LAUNCH_NODE_IPADDR", "10.0.0.99"},
                                                  {"SLURM_JOB_NODELIST", "gpu[007-009]"}};
  RankEnvironment e = Read(variables);
  EXPECT_EQ(e.launcher, "Slurm");
  EXPECT_EQ(e.rank, 3);
  EXPECT_EQ(e.world_size, 7);
  EXPECT_EQ(e.local_rank, 1);
  EXPECT_EQ(e.local_size, 2);
  EXPECT_EQ(e.master_address, "gpu007");  // rank 0's node, not srun's
  EXPECT_GE(e.master_port, 15000);
  EXPECT_LT(e.master_port, 25000);
  const int port = e.master_port;
  variables["SLURM_PROCID"] = "6";
  variables["SLURM_NODEID"] = "2";
  e = Read(variables);
  EXPECT_EQ(e.local_size, 3);
  EXPECT_EQ(e.master_port, port);  // the same on all ranks
  variables["SLURM_STEP_ID"] = "1";
  EXPECT_NE(Read(variables).master_port, port);  // another for the next step of the job
  variables["MASTER_PORT"] = "4000";
  variables["MASTER_ADDR"] = "10.1.1.1";
  e = Read(variables);
  EXPECT_EQ(e.master_port, 4000);
  EXPECT_EQ(e.master_address, "10.1.1.1");
  variables.erase("MASTER_ADDR");
  variables.erase("SLURM_JOB_NODELIST");
  EXPECT_EQ(Read(variables).master_address, "10.0.0.99");
}

TEST_F(EnvironmentTest, SlurmOnOneNodeNeedsNoName) {
  const RankEnvironment e = Read({{"SLURM_PROCID", "1"},
                                  {"SLURM_NTASKS", "2"},
                                  {"SLURM_NNODES", "1"},
                                  {"SLURM_JOB_ID", "7"},
                                  {"SLURM_JOB_NODELIST", "unknown-to-dns"}});
  EXPECT_EQ(e.master_address, "127.0.0.1");
  EXPECT_EQ(e.local_size, 2);
}

TEST_F(EnvironmentTest, OpenMpi) {
  std::map<std::string, std::string> variables = {{"OMPI_COMM_WORLD_RANK", "1"},
                                                  {"OMPI_COMM_WORLD_SIZE", "2"},
                                                  {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                                  {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                                                  {"PMIX_NAMESPACE", "3719561217"}};
  RankEnvironment e = Read(variables);
  EXPECT_EQ(e.launcher, "Open MPI");
  EXPECT_EQ(e.master_address, "127.0.0.1");
  EXPECT_GE(e.master_port, 15000);
  variables["OMPI_COMM_WORLD_LOCAL_SIZE"] = "1";
  const Error refused = Refused(variables);
  EXPECT_NE(refused.hint.find("mpirun -x MASTER_ADDR"), std::string::npos) << refused.Format();
  variables["SLURM_JOB_NODELIST"] = "a1,a2";  // mpirun within an allocation
  EXPECT_EQ(Read(variables).master_address, "a1");
}

TEST_F(EnvironmentTest, NonsenseIsRefused) {
  EXPECT_NE(Refused({{"RANK", "two"}}).what.find("RANK is \"two\""), std::string::npos);
  EXPECT_NE(Refused({{"RANK", "2"}}).what.find("rank 2 of (none)"), std::string::npos);
  EXPECT_NE(Refused({{"RANK", "2"}, {"WORLD_SIZE", "2"}}).what.find("rank 2 of 2"), std::string::npos);
  EXPECT_NE(Refused({{"RANK", "1"}, {"WORLD_SIZE", "2"}}).what.find("MASTER_ADDR"), std::string::npos);
  for (const char* port : {"70000", "0"}) {
    const Error refused =
        Refused({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "localhost"}, {"MASTER_PORT", port}});
    EXPECT_NE(refused.what.find("MASTER_PORT"), std::string::npos) << refused.Format();
  }
}

TEST(NodeListTest, FirstNode) {
  const std::map<std::string, std::string> first = {{"node3", "node3"},
                                                    {"node3,node1", "node3"},
                                                    {"gpu[007-009,11]", "gpu007"},
                                                    {"gpu[4,7-9],login", "gpu4"},
                                                    {"rack[2-3]n[01,04]-ib,x", "rack2n01-ib"},
                                                    {"a[1-2],b[3-4]", "a1"},
                                                    {"", ""},
                                                    {"gpu[1-", ""}};
  for (const auto& [list, node] : first) EXPECT_EQ(FirstNode(list), node) << list;
}

TEST(NodeListTest, TasksOnNode) {
  EXPECT_EQ(TasksOnNode("4", 0), 4);
  EXPECT_EQ(TasksOnNode("2(x3),1", 2), 2);
  EXPECT_EQ(TasksOnNode("2(x3),1", 3), 1);
  EXPECT_EQ(TasksOnNode("2(x3),1", 4), std::nullopt);
  EXPECT_EQ(TasksOnNode("2(x", 0), std::nullopt);
  EXPECT_EQ(TasksOnNode("two", 0), std::nullopt);
  EXPECT_EQ(TasksOnNode("", 0), std::nullopt);
}

TEST(EndpointTest, HostAndPort) {
  const auto expect = [](const char* text, const char* host, int port) {
    const auto endpoint = ParseEndpoint("--rdzv-endpoint", text);
    ASSERT_TRUE(endpoint.ok()) << endpoint.error().Format();
    EXPECT_EQ(endpoint->host, host);
    EXPECT_EQ(endpoint->port, port);
  };
  expect("node0:29500", "node0", 29500);
  expect("10.0.0.1:1", "10.0.0.1", 1);
  expect("[fd00::1]:65535", "fd00::1", 65535);
  for (const char* text : {"node0", "node0:", ":29500", "node0:0", "node0:65536", "fd00::1:29500", "node0:x", ""}) {
    const auto endpoint = ParseEndpoint("--rdzv-endpoint", text);
    ASSERT_FALSE(endpoint.ok()) << text;
    EXPECT_EQ(endpoint.error().code, Code::kUsage);
    EXPECT_NE(endpoint.error().what.find("--rdzv-endpoint"), std::string::npos);
  }
}

}  // namespace
}  // namespace autospc
