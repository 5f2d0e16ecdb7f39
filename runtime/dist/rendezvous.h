// How the ranks of a job find each other.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "runtime/base/result.h"
#include "runtime/dist/communicator.h"

namespace autospc {

// One rank's place in a job.
struct RankEnvironment {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_size = 1;  // ranks on this machine
  std::string master_address;
  int master_port = 29500;
  bool store_exists = false;     // the launcher already runs the store (torchrun's agent)
  std::optional<int> listen_fd;  // rank 0 of our own launcher: a socket that listens on master_port
};

// From the variables that launchers set: RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT
// (ours, torchrun, Kubernetes operators); SLURM_PROCID, SLURM_NTASKS, SLURM_LOCALID; OMPI_COMM_WORLD_RANK, _SIZE,
// _LOCAL_RANK. nullopt if none of them is set: a rank of its own. kUsage for values that make no sense, or
// several ranks without MASTER_ADDR.
Result<std::optional<RankEnvironment>> ReadRankEnvironment();

// Connects the ranks and compares what they are about to run: `digest` (of the package) must be the same on
// all. kPeerFailed: a rank did not come within the timeout; kBadInput: it has another package.
Result<std::unique_ptr<Communicator>> Connect(const RankEnvironment& environment, const std::string& digest,
                                              int timeout_seconds = 300);

}  // namespace autospc
