#include "runtime/dist/environment.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <initializer_list>

namespace autospc {
namespace {

constexpr int kUsualPort = 29500;
constexpr char kThisMachine[] = "127.0.0.1";

std::string Variable(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* value = std::getenv(name);
    if (value != nullptr && *value != '\0') return value;
  }
  return "";
}

std::optional<int> Natural(std::string_view text) {
  int value = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || rest != text.data() + text.size() || value < 0) return std::nullopt;
  return value;
}

// The first variable of `names` that is set, as a number.
Result<std::optional<int>> Number(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const std::string text = Variable({name});
    if (text.empty()) continue;
    const std::optional<int> value = Natural(text);
    if (!value) {
      return Error{Code::kUsage, fmt::format("{} is \"{}\", not a number of a rank", name, text), "",
                   "unset it, or start the ranks with a launcher that sets it"};
    }
    return value;
  }
  return std::optional<int>();
}

// FNV-1a: equal on every machine.
uint32_t Hash(std::string_view text) {
  uint32_t hash = 2166136261u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 16777619u;
  return hash;
}

int PortOfJob(const std::string& job) { return job.empty() ? kUsualPort : 15000 + static_cast<int>(Hash(job) % 10000); }

// The launcher whose variables name a rank or a size; "" for none.
std::string FindLauncher() {
  if (!Variable({"RANK", "WORLD_SIZE"}).empty())
    return Variable({"AUTOSP_LAUNCHED"}).empty() ? "torchrun" : "autosp-run";
  if (!Variable({"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"}).empty()) return "Open MPI";
  if (!Variable({"SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}).empty()) return "Slurm";
  return "";
}

Status SetMaster(RankEnvironment* environment, bool one_node) {
  environment->master_address = Variable({"MASTER_ADDR"});
  std::string job;  // what all ranks of one start share, and no other start
  if (environment->launcher == "Slurm")
    job = Variable({"SLURM_JOB_ID"}) + "." + Variable({"SLURM_STEP_ID"});
  else if (environment->launcher == "Open MPI")
    job = Variable({"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"});
  ASSIGN_OR_RETURN(const auto port, Number({"MASTER_PORT"}));
  environment->master_port = port.value_or(PortOfJob(job));
  if (environment->master_port < 1 || environment->master_port > 65535) {
    return Error{Code::kUsage, fmt::format("MASTER_PORT is {}, not a port", environment->master_port), "",
                 "use 1024 to 65535"};
  }
  if (!environment->master_address.empty() || environment->world_size == 1) return Ok();
  if (one_node) {
    environment->master_address = kThisMachine;
  } else if (environment->launcher == "Slurm" || environment->launcher == "Open MPI") {
    environment->master_address = FirstNode(Variable({"SLURM_STEP_NODELIST", "SLURM_JOB_NODELIST", "SLURM_NODELIST"}));
    if (environment->master_address.empty()) environment->master_address = Variable({"SLURM_LAUNCH_NODE_IPADDR"});
  }
  if (!environment->master_address.empty()) return Ok();
  return Error{Code::kUsage, "MASTER_ADDR is not set", "",
               environment->launcher == "Open MPI"
                   ? "mpirun -x MASTER_ADDR=HOST sets it, HOST being rank 0's machine as the others reach it"
                   : "set it to the address of rank 0's machine, on every rank"};
}

}  // namespace

Result<std::optional<RankEnvironment>> ReadRankEnvironment() {
  const std::string launcher = FindLauncher();
  if (launcher.empty()) return std::optional<RankEnvironment>();
  ASSIGN_OR_RETURN(const auto rank, Number({"RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"}));
  ASSIGN_OR_RETURN(const auto size,
                   Number({"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"}));
  if (!rank || !size || *size < 1 || *rank >= *size) {
    return Error{Code::kUsage,
                 fmt::format("the environment names rank {} of {}", rank ? std::to_string(*rank) : "(none)",
                             size ? std::to_string(*size) : "(none)"),
                 "", "set RANK (from 0) and WORLD_SIZE, or start the ranks with --nproc-per-node"};
  }
  RankEnvironment environment;
  environment.launcher = launcher;
  environment.rank = *rank;
  environment.world_size = *size;
  ASSIGN_OR_RETURN(const auto local_rank, Number({"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}));
  ASSIGN_OR_RETURN(auto local_size,
                   Number({"LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"}));
  bool one_node = false;
  if (environment.launcher == "Slurm") {
    ASSIGN_OR_RETURN(const auto nodes, Number({"SLURM_STEP_NUM_NODES", "SLURM_NNODES", "SLURM_JOB_NUM_NODES"}));
    ASSIGN_OR_RETURN(const auto node, Number({"SLURM_NODEID"}));
    one_node = nodes == 1;
    const std::string tasks = Variable({"SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE"});
    if (const auto here = TasksOnNode(tasks, node.value_or(0))) local_size = here;
    if (one_node) local_size = *size;
  } else {
    one_node = local_size == size && environment.launcher == "Open MPI";  // torchrun always says where rank 0 is
  }
  environment.local_rank = local_rank.value_or(0);
  environment.local_size = std::clamp(local_size.value_or(1), 1, environment.world_size);
  RETURN_IF_ERROR(SetMaster(&environment, one_node));
  ASSIGN_OR_RETURN(environment.listen_fd, Number({"AUTOSP_LISTEN_FD"}));
  ASSIGN_OR_RETURN(const auto attempt, Number({"AUTOSP_ATTEMPT"}));
  environment.attempt = attempt.value_or(0);
  environment.store_exists = Variable({"TORCHELASTIC_USE_AGENT_STORE"}) == "True";
  // torchrun's store outlives a restart of the ranks; c10d's own rendezvous keeps attempts apart in the same way.
  if (environment.store_exists) {
    environment.store_prefix = fmt::format("/worker/attempt_{}/{}", Variable({"TORCHELASTIC_RESTART_COUNT"}),
                                           Variable({"TORCHELASTIC_RUN_ID"}));
  }
  return std::optional<RankEnvironment>(environment);
}

std::string FirstNode(std::string_view list) {
  std::string name;
  for (size_t i = 0; i < list.size() && list[i] != ','; ++i) {
    if (list[i] != '[') {
      if (list[i] != ' ') name += list[i];
      continue;
    }
    const size_t close = list.find(']', i);
    if (close == std::string_view::npos) return "";
    const std::string_view range = list.substr(i + 1, close - i - 1);
    name += range.substr(0, range.find_first_of("-,"));
    i = close;
  }
  return name;
}

std::optional<int> TasksOnNode(std::string_view list, int index) {
  while (!list.empty()) {
    const std::string_view item = list.substr(0, list.find(','));
    list.remove_prefix(std::min(list.size(), item.size() + 1));
    const size_t open = item.find("(x");
    const std::optional<int> tasks = Natural(item.substr(0, open));
    std::optional<int> times = 1;
    if (open != std::string_view::npos)
      times = item.ends_with(')') ? Natural(item.substr(open + 2, item.size() - open - 3)) : std::nullopt;
    if (!tasks || !times) return std::nullopt;
    if (index < *times) return tasks;
    index -= *times;
  }
  return std::nullopt;
}

Result<Endpoint> ParseEndpoint(std::string_view flag, const std::string& text) {
  const size_t colon = text.rfind(':');
  Endpoint endpoint;
  std::optional<int> port;
  if (colon != std::string::npos) {
    endpoint.host = text.substr(0, colon);
    port = Natural(std::string_view(text).substr(colon + 1));
    const bool bracketed = endpoint.host.starts_with('[') && endpoint.host.ends_with(']');
    if (bracketed)
      endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
    else if (endpoint.host.find(':') != std::string::npos)
      port.reset();  // an IPv6 address without brackets: where it ends is a guess
  }
  if (!port || *port < 1 || *port > 65535 || endpoint.host.empty()) {
    return Error{Code::kUsage, fmt::format("'{}' is '{}', not HOST:PORT", flag, text), "",
                 "write it like 10.0.0.1:29500 or [fd00::1]:29500, with a port from 1 to 65535"};
  }
  endpoint.port = *port;
  return endpoint;
}

}  // namespace autospc
