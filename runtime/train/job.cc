#include "runtime/train/job.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>

namespace autospc::train {
namespace {

// About one process or machine.
constexpr std::array<std::string_view, 13> kOwn = {
    "package", "nproc-per-node", "nnodes",     "node-rank", "rdzv-endpoint", "interface", "threads",
    "json",    "help",           "log-format", "log-level", "restart",       "peak-flops"};
// Read by each rank, at a path of its own.
constexpr std::array<std::string_view, 4> kRead = {"golden", "weights", "data", "eval-data"};
// Written or read at a path that may differ between machines.
constexpr std::array<std::string_view, 8> kElsewhere = {"write-golden", "checkpoint", "resume",       "metrics",
                                                        "tensorboard",  "trace",      "save-weights", "output"};

template <size_t N>
bool In(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool Set(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0';
}

Error Usage(std::string what, std::string hint) { return Error{Code::kUsage, std::move(what), "", std::move(hint)}; }

Result<Role> FindLauncher(const JobOptions& options) {
  Role role;
  role.launcher = true;
  role.nodes = std::max(1, options.nodes);
  role.node = options.node_rank;
  if (role.node < 0) {
    const char* slurm = std::getenv("SLURM_NODEID");
    role.node = slurm != nullptr && role.nodes > 1 ? std::atoi(slurm) : 0;
    if (slurm == nullptr && role.nodes > 1)
      return Usage("--nnodes without this machine's number", "add --node-rank R, from 0 on, on each machine another");
  }
  if (role.node >= role.nodes)
    return Usage(fmt::format("--node-rank {} of --nnodes {}", role.node, role.nodes), "machines count from 0");
  if (!options.rdzv_endpoint.empty()) {
    ASSIGN_OR_RETURN(role.endpoint, ParseEndpoint("--rdzv-endpoint", options.rdzv_endpoint));
  } else if (role.nodes > 1) {
    return Usage("--nnodes without --rdzv-endpoint",
                 "add --rdzv-endpoint HOST:PORT, a free port of machine 0 that the others reach");
  }
  return role;
}

}  // namespace

RankEnvironment Role::Environment(int local) const {
  RankEnvironment first;
  first.rank = node * local;
  first.world_size = nodes * local;
  first.local_size = local;
  first.master_address = endpoint.host;
  first.master_port = endpoint.port;
  return first;
}

Result<Role> FindRole(const JobOptions& options) {
  const bool ours = Set("AUTOSP_LAUNCHED");
  if (options.nproc_per_node == 0) {
    for (const auto& [given, flag] :
         {std::pair(options.nodes > 0, "--nnodes"), std::pair(options.node_rank >= 0, "--node-rank"),
          std::pair(!options.rdzv_endpoint.empty(), "--rdzv-endpoint"), std::pair(options.restarts > 0, "--restart")}) {
      if (given)
        return Usage(fmt::format("{} without --nproc-per-node", flag),
                     "it is of our own launcher: add --nproc-per-node P");
    }
  } else if (!ours) {
    // Slurm names the batch script rank 0 too: only what srun starts is a rank.
    ASSIGN_OR_RETURN(const auto environment, ReadRankEnvironment());
    const bool rank =
        environment && environment->world_size > 1 && (environment->launcher != "Slurm" || Set("SLURM_STEP_ID"));
    if (rank && options.nodes == 0) {
      return Usage(
          fmt::format("{} has started this process as rank {} of {}, and --nproc-per-node would start ranks within it",
                      environment->launcher, environment->rank, environment->world_size),
          "leave --nproc-per-node out; or start one process a machine, with --nnodes, --node-rank and "
          "--rdzv-endpoint");
    }
    return FindLauncher(options);
  }
  Role role;
  ASSIGN_OR_RETURN(const auto environment, ReadRankEnvironment());
  role.rank = environment.value_or(RankEnvironment{});
  return role;
}

std::vector<Term> TermsOf(const JobOptions& options, const std::string& package_digest) {
  std::vector<Term> terms = {{"the package", package_digest}};
  for (const auto& [name, values] : options.flags) {
    if (In(kOwn, name)) continue;
    Term term{"--" + name, fmt::format("{}", fmt::join(values, " "))};
    const bool given = !term.value.empty();
    if (In(kElsewhere, name)) {
      term.value = given ? "given" : "";
    } else if (In(kRead, name) && given) {
      std::vector<std::string> contents;
      for (const std::string& path : values) contents.push_back(Fingerprint(path));
      term.value = fmt::format("{}", fmt::join(contents, ", "));
    }
    if (term.value.empty()) term.value = given ? "a stream" : "not given";
    terms.push_back(std::move(term));
  }
  return terms;
}

}  // namespace autospc::train
