// Launcher or rank, and the terms that ranks compare.
#include "runtime/train/job.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <map>

namespace autospc::train {
namespace {

class RoleTest : public testing::Test {
 protected:
  void TearDown() override { Set({}); }
  void Set(const std::map<std::string, std::string>& variables) {
    for (const char* name : {"RANK", "WORLD_SIZE", "MASTER_ADDR", "AUTOSP_LAUNCHED", "SLURM_PROCID", "SLURM_NTASKS",
                             "SLURM_STEP_ID", "SLURM_NODEID", "SLURM_NNODES"}) {
      unsetenv(name);
    }
    for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  }
  Role Find(const JobOptions& options) {
    const Result<Role> role = FindRole(options);
    if (!role.ok()) {
      ADD_FAILURE() << role.error().Format();
      return {};
    }
    return *role;
  }
};

TEST_F(RoleTest, AloneALauncherOrARank) {
  Set({});
  JobOptions options;
  EXPECT_FALSE(Find(options).launcher);
  EXPECT_EQ(Find(options).rank.world_size, 1);
  options.nproc_per_node = 2;
  EXPECT_TRUE(Find(options).launcher);
  EXPECT_EQ(Find(options).nodes, 1);
  Set({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"AUTOSP_LAUNCHED", "1"}});
  EXPECT_FALSE(Find(options).launcher);  // what our launcher starts has the same flags
  EXPECT_EQ(Find(options).rank.rank, 1);
  options.nproc_per_node = 0;
  Set({{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}});
  EXPECT_EQ(Find(options).rank.rank, 1);
}

TEST_F(RoleTest, WithinSlurm) {
  JobOptions options;
  options.nproc_per_node = 2;
  // The batch script, in which Slurm names a rank too.
  Set({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_NNODES", "1"}});
  EXPECT_TRUE(Find(options).launcher);
  // What srun starts is a rank.
  Set({{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "2"}, {"SLURM_NNODES", "1"}, {"SLURM_STEP_ID", "0"}});
  EXPECT_EQ(FindRole(options).error().code, Code::kUsage);
  // Unless it starts a launcher on each machine.
  Set({{"SLURM_PROCID", "1"}, {"SLURM_NTASKS", "2"}, {"SLURM_NNODES", "2"}, {"SLURM_STEP_ID", "0"}, {"SLURM_NODEID", "1"},
       {"MASTER_ADDR", "a"}});
  options.nodes = 2;
  options.rdzv_endpoint = "10.0.0.1:400";
  const Role role = Find(options);
  EXPECT_TRUE(role.launcher);
  EXPECT_EQ(role.node, 1);
  EXPECT_EQ(role.endpoint.host, "10.0.0.1");
  EXPECT_EQ(role.endpoint.port, 400);
  EXPECT_EQ(role.Environment(2).rank, 2);
  EXPECT_EQ(role.Environment(2).world_size, 4);
}

TEST_F(RoleTest, FlagsThatContradictAreUsage) {
  Set({});
  const auto expect = [](const JobOptions& options, const std::string& says) {
    const Result<Role> role = FindRole(options);
    ASSERT_FALSE(role.ok()) << says;
    EXPECT_EQ(role.error().code, Code::kUsage);
    EXPECT_NE(role.error().what.find(says), std::string::npos) << role.error().Format();
  };
  JobOptions options;
  options.nodes = 2;
  expect(options, "--nnodes without --nproc-per-node");
  options = {};
  options.node_rank = 0;
  expect(options, "--node-rank without --nproc-per-node");
  options = {};
  options.rdzv_endpoint = "a:1";
  expect(options, "--rdzv-endpoint without --nproc-per-node");
  options = {};
  options.restarts = 1;
  expect(options, "--restart without --nproc-per-node");
  options = {};
  options.nproc_per_node = options.nodes = 2;
  expect(options, "--nnodes without this machine's number");
  options.node_rank = 0;
  expect(options, "--nnodes without --rdzv-endpoint");
  options.rdzv_endpoint = "a";
  expect(options, "not HOST:PORT");
  options.rdzv_endpoint = "a:1";
  options.node_rank = 2;
  expect(options, "--node-rank 2 of --nnodes 2");
}

std::string ValueOf(const std::vector<Term>& terms, const std::string& name) {
  for (const Term& t : terms) {
    if (t.name == name) return t.value;
  }
  return "(no such term)";
}

TEST(TermsTest, FlagsThatShapeTheRun) {
  const std::string file = testing::TempDir() + "terms-" + std::to_string(getpid());
  std::ofstream(file) << "tokens";
  JobOptions options;
  options.flags = {{"lr", {"0.1"}},   {"package", {"somewhere"}},       {"threads", {"4"}},    {"node-rank", {"1"}},
                   {"data", {file}},  {"checkpoint", {"/scratch/mine"}}, {"resume", {""}},      {"weights", {""}},
                   {"eval-data", {"/dev/stdin"}}};
  const std::vector<Term> terms = TermsOf(options, "sha256:abc");
  EXPECT_EQ(ValueOf(terms, "the package"), "sha256:abc");
  EXPECT_EQ(ValueOf(terms, "--lr"), "0.1");
  EXPECT_EQ(ValueOf(terms, "--package"), "(no such term)");
  EXPECT_EQ(ValueOf(terms, "--threads"), "(no such term)");
  EXPECT_EQ(ValueOf(terms, "--node-rank"), "(no such term)");
  EXPECT_EQ(ValueOf(terms, "--data"), Fingerprint(file));  // by content: its path may differ
  EXPECT_EQ(ValueOf(terms, "--checkpoint"), "given");
  EXPECT_EQ(ValueOf(terms, "--resume"), "not given");
  EXPECT_EQ(ValueOf(terms, "--weights"), "not given");
  EXPECT_EQ(ValueOf(terms, "--eval-data"), "a stream");
  unlink(file.c_str());
}

}  // namespace
}  // namespace autospc::train
