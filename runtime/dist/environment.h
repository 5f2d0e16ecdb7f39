// A rank's place in a job, from the variables that launchers set.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc {

struct RankEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_size = 1;  // ranks on this machine, as far as the launcher says
  std::string master_address;
  int master_port = 29500;
  bool store_exists = false;     // the launcher already runs the store (torchrun's agent)
  std::string store_prefix;      // of this attempt's keys, where a store outlives attempts
  std::optional<int> listen_fd;  // rank 0 of our own launcher: a socket that listens on master_port
  int attempt = 0;               // how often our own launcher has started the job again
  std::string launcher;          // "autosp-run", "torchrun", "Slurm", "Open MPI": whose variables these are
};

// RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT (ours, torchrun, Kubernetes operators);
// OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK, _LOCAL_SIZE; SLURM_PROCID, SLURM_STEP_NUM_TASKS or SLURM_NTASKS,
// SLURM_LOCALID, SLURM_TASKS_PER_NODE. nullopt if none of them is set: a rank of its own.
//
// Without MASTER_ADDR: this machine where all ranks are on it, else the first node of SLURM_STEP_NODELIST or
// SLURM_JOB_NODELIST, on which Slurm puts rank 0, else SLURM_LAUNCH_NODE_IPADDR. Without MASTER_PORT: for Slurm and
// Open MPI a port between 15000 and 24999 that is the same for all ranks of a job and differs between jobs, else 29500.
// kUsage for values that make no sense, or several ranks without any way to rank 0.
Result<std::optional<RankEnvironment>> ReadRankEnvironment();

// The first of Slurm's list of nodes: "node[003-007,9],login" is node003, "rack[2-3]n[01,04]-ib" rack2n01-ib. "" for
// a list that names none.
std::string FirstNode(std::string_view list);

// Tasks on node `index` by Slurm's run-length list: "2(x3),1" has 2 on nodes 0 to 2 and 1 on node 3. nullopt where the
// list is malformed or shorter.
std::optional<int> TasksOnNode(std::string_view list, int index);

// HOST:PORT, [IPv6]:PORT. kUsage for anything else; `flag` stands in the error.
struct Endpoint {
  std::string host;
  int port = 0;
};
Result<Endpoint> ParseEndpoint(std::string_view flag, const std::string& text);

}  // namespace autospc
