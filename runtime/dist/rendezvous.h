// How the ranks of a job find each other, agree on what they run, and are connected.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <memory>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/dist/agreement.h"
#include "runtime/dist/communicator.h"
#include "runtime/dist/environment.h"
#include "runtime/dist/watchdog.h"

namespace c10d {
class Store;
}

namespace autospc {

struct CudaModule;

// The ranks of a job, met.
struct Meeting {
  Meeting(c10::intrusive_ptr<c10d::Store> shared, std::shared_ptr<Communicator> between_hosts);
  Meeting(Meeting&& other) noexcept;
  Meeting& operator=(Meeting&& other) noexcept;
  ~Meeting();

  // The error that a rank ends with, given the one it met: Watchdog::Explain where there are other ranks.
  Error Explain(Error met) const;
  // Collectives on the ranks' devices go over `gpus` from now on, which the watchdog aborts as it does `host`.
  void UseDevice(std::unique_ptr<Communicator> gpus);

  c10::intrusive_ptr<c10d::Store> store;  // that all ranks share, for further keys of theirs; none if there is one rank
  std::unique_ptr<Watchdog> watchdog;     // none if there is one rank
  std::shared_ptr<Communicator> host;     // collectives on host memory; aborted by the watchdog
  std::shared_ptr<Communicator> device;   // on the GPUs' memory; none where the ranks work on the host
  std::vector<std::string> warnings;      // for people: in what the ranks differ though they may
};

struct MeetOptions {
  std::vector<Term> terms;     // what must be the same on all ranks; MachineTerms() are added
  std::string interface;       // whose address others reach this rank by; "": GLOO_SOCKET_IFNAME, or the way to rank 0
  int timeout_seconds = 300;   // for all of them to come
  int heartbeat_seconds = 30;  // of silence after which a rank counts as hung; 0: never
};

// Connects the ranks. First they compare their terms over the job's store, then watchdogs, then the transport are
// connected, over the interface by which this machine reaches rank 0's (the loopback one if all are on one machine).
// kPeerFailed: ranks did not come within the timeout; kBadInput: a rank runs something else, or another number of
// ranks, with both values; kUsage: there is no such interface.
Result<Meeting> Meet(const RankEnvironment& environment, const MeetOptions& options);

// Connects the GPUs of ranks that have met: collectives on their memory. All ranks call it. kUsage: a rank has no GPU,
// or two share one; kPeerFailed: NCCL could not connect them.
Result<std::unique_ptr<Communicator>> ConnectGpus(const Meeting& meeting, const RankEnvironment& environment, int gpus,
                                                  const CudaModule& module);

}  // namespace autospc
