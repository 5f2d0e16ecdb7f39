// Which of a job's ranks failed first, and with which exit code the job ends: the cause, not its echoes.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/base/result.h"

namespace autospc::train {

// Told of each rank's end in the order in which they are seen. What a rank ended with counts in this order:
//   1. a signal that the launcher did not send (kPeerFailed), or an error of the rank's own (its exit code): the first
//   2. kTimeout: it missed a rank that is silent
//   3. kPeerFailed: it lost a rank
class FirstCause {
 public:
  // `status` as waitpid gives it. `ours`: the launcher had asked the rank to end.
  void Ended(int rank, int status, bool ours);
  // The launcher itself found that a rank is silent.
  void Silent(int rank);

  bool failed() const { return cause_.has_value() || silent_ || lost_; }
  // Whether what is known is the cause: no later end changes the code.
  bool decided() const { return cause_.has_value(); }
  Code code() const;  // kOk where no rank failed
  // The rank of a decided cause, and the signal that ended it or 0.
  int rank() const { return cause_ ? cause_->rank : -1; }
  int signal() const { return cause_ ? cause_->signal : 0; }
  // Ranks that ended for want of another: with kTimeout or kPeerFailed.
  int echoes() const { return echoes_; }

 private:
  struct Cause {
    int rank = -1;
    int signal = 0;
    Code code = Code::kFailed;
  };
  std::optional<Cause> cause_;
  bool silent_ = false;
  bool lost_ = false;
  int echoes_ = 0;
};

// How many processes of this machine the kernel has killed for want of memory since it started; -1: unknown. `vmstat`
// is /proc/vmstat but in tests.
int64_t OutOfMemoryKills(const char* vmstat = "/proc/vmstat");

// What the process is doing by /proc/PID/stat: 'R' running, 'S' sleeping, 'D' waiting for a device, 'T' stopped,
// 't' stopped by a debugger; 0: no such process.
char ProcessState(int pid);

}  // namespace autospc::train
