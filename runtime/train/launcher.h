// Starts a job's ranks on this machine: the same program once a rank, with RANK, WORLD_SIZE, LOCAL_RANK,
// LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace autospc::train {

struct LaunchOptions {
  int ranks = 1;
  bool pass_signals_on = false;  // SIGTERM and SIGUSR1 go to the ranks, which write a checkpoint and end by themselves
  std::string program;                                           // its path, run as is
  std::vector<std::string> arguments;                            // all but the program's name
  std::vector<std::pair<std::string, std::string>> environment;  // set for every rank besides the above
};

// Runs the job and returns its exit code: 0 if every rank returned 0. A rank that fails ends the others; the code is
// that of the rank that failed first, 7 (kPeerFailed) if a signal ended it, which is said on stderr.
// Ranks' lines are passed on, those of stderr behind "[rank N] ", stdout of ranks other than 0 likewise.
// SIGINT and SIGTERM (without pass_signals_on, or the second one) end the ranks: 130. No rank outlives this process, whatever ends it.
Result<int> Launch(const LaunchOptions& options);

}  // namespace autospc::train
