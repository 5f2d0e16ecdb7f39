// Starts this machine's ranks of a job and watches over them: the same program once a rank, with RANK, WORLD_SIZE,
// LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR and MASTER_PORT set.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"

namespace autospc::train {

struct LaunchOptions {
  int ranks = 1;               // on this machine, as on every other
  int nodes = 1, node = 0;     // machines, and which of them this is
  std::string master_address;  // of node 0's machine and a free port there; used if there are several nodes
  int master_port = 0;
  int attempt = 0;               // starts of this job before this one
  int heartbeat_seconds = 30;    // of a rank's silence that make a hang; 0: none does
  bool pass_signals_on = false;  // SIGTERM and SIGUSR1 go to the ranks, which write a checkpoint and end by themselves
  std::string program;           // its path, run as is
  std::vector<std::string> arguments;                            // all but the program's name
  std::vector<std::pair<std::string, std::string>> environment;  // set for every rank besides the above
  std::function<std::string(int)> describe;                      // an instruction, for people; may be empty
};

struct LaunchOutcome {
  int code = 0;
  // Whether another start may go better: the cause was a rank lost, silent, or failed in its run (code 1), here or on
  // another machine, and no signal asked the launcher to end.
  bool may_pass = false;
};

// Runs the job. `code` is 0 if every rank returned 0, else the first cause's (first_cause.h): that of the rank that
// failed first, 7 (kPeerFailed) if a signal ended it, 6 (kTimeout) if it was silent; which and where is said on stderr.
// When one has failed the others are left a moment to notice and to say what they were at, then they are ended.
// Ranks' lines are passed on, those of stderr behind "[rank N] ", stdout of ranks other than 0 likewise.
// SIGINT, SIGHUP and SIGTERM (without pass_signals_on, or the second one) end the ranks: 130. No rank outlives this
// process, whatever ends it.
Result<LaunchOutcome> Launch(const LaunchOptions& options);

}  // namespace autospc::train
