// Whether this process starts a job's ranks or is one of them, and what its ranks must agree on.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/dist/agreement.h"
#include "runtime/dist/environment.h"

namespace autospc::train {

struct JobOptions {
  int nproc_per_node = 0;     // 0: this process is a rank: the only one, or the one that the environment names
  int nodes = 0;              // 0: not given, one machine
  int node_rank = -1;         // -1: not given
  std::string rdzv_endpoint;  // HOST:PORT, of several machines
  std::string interface;      // "": the one that leads to rank 0
  int heartbeat_seconds = 30;
  int restarts = 0;
  // Every flag and its values, as text, for comparing them between ranks.
  std::vector<std::pair<std::string, std::vector<std::string>>> flags;
};

// What this process is. A rank that our launcher started is one; else --nproc-per-node makes a launcher; else the
// environment says which rank this is, or it is the only one.
struct Role {
  bool launcher = false;
  RankEnvironment rank;     // of a rank
  int nodes = 1, node = 0;  // of a launcher
  Endpoint endpoint;        // of several nodes

  // Of the first of this launcher's `local` ranks.
  RankEnvironment Environment(int local) const;
};

// kUsage: flags that contradict each other or the environment.
Result<Role> FindRole(const JobOptions& options);

// The terms of a run: the package's digest; every flag that shapes the work. Flags about this process or machine alone
// are left out, files that may lie elsewhere on each machine are compared by content (Fingerprint), and of files that
// the run writes only whether they are asked for.
std::vector<Term> TermsOf(const JobOptions& options, const std::string& package_digest);

}  // namespace autospc::train
