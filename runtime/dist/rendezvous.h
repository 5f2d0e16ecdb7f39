// How the ranks of a job find each other.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "runtime/base/result.h"
#include "runtime/dist/communicator.h"

namespace c10d {
class Store;
}

namespace autospc {

struct CudaModule;

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

// The ranks of a job, met.
struct Meeting {
  Meeting(c10::intrusive_ptr<c10d::Store> shared, std::unique_ptr<Communicator> between_hosts);
  Meeting(Meeting&& other) noexcept;
  Meeting& operator=(Meeting&& other) noexcept;
  ~Meeting();

  c10::intrusive_ptr<c10d::Store> store;  // that all ranks share, for further keys of theirs; none if there is one rank
  std::unique_ptr<Communicator> host;     // collectives on host memory
};

// Connects the ranks over TCP and compares what they are about to run: `digest` (of the package) must be the same on
// all. kPeerFailed: a rank did not come within the timeout; kBadInput: it has another package.
Result<Meeting> Meet(const RankEnvironment& environment, const std::string& digest, int timeout_seconds = 300);

// Connects the GPUs of ranks that have met: collectives on their memory. All ranks call it. kUsage: a rank has no GPU,
// or two share one; kPeerFailed: NCCL could not connect them.
Result<std::unique_ptr<Communicator>> ConnectGpus(const Meeting& meeting, const RankEnvironment& environment, int gpus,
                                                  const CudaModule& module);

}  // namespace autospc
