#include "runtime/dist/rendezvous.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

#include "runtime/dist/gloo.h"

namespace autospc {
namespace {

const char* Environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : nullptr;
}

// The first variable of `names` that is set, as a number.
Result<std::optional<int>> Number(std::initializer_list<const char*> names) {
  for (const char* name : names) {
    const char* text = Environment(name);
    if (text == nullptr) continue;
    int value = 0;
    const char* end = text + std::strlen(text);
    const auto [rest, error] = std::from_chars(text, end, value);
    if (error != std::errc() || rest != end || value < 0) {
      return Error{Code::kUsage, fmt::format("{} is \"{}\", not a number of a rank", name, text), "",
                   "unset it, or start the ranks with a launcher that sets it"};
    }
    return std::optional<int>(value);
  }
  return std::optional<int>();
}

}  // namespace

Result<std::optional<RankEnvironment>> ReadRankEnvironment() {
  ASSIGN_OR_RETURN(const auto rank, Number({"RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"}));
  ASSIGN_OR_RETURN(const auto size, Number({"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS"}));
  if (!rank && !size) return std::optional<RankEnvironment>();
  if (!rank || !size || *size < 1 || *rank >= *size) {
    return Error{Code::kUsage,
                 fmt::format("the environment names rank {} of {}", rank ? std::to_string(*rank) : "(none)",
                             size ? std::to_string(*size) : "(none)"),
                 "", "set RANK (from 0) and WORLD_SIZE, or start the ranks with --nproc-per-node"};
  }
  RankEnvironment environment;
  environment.rank = *rank;
  environment.world_size = *size;
  ASSIGN_OR_RETURN(const auto local_rank, Number({"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID"}));
  ASSIGN_OR_RETURN(const auto local_size,
                   Number({"LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE", "SLURM_NTASKS_PER_NODE"}));
  ASSIGN_OR_RETURN(const auto port, Number({"MASTER_PORT"}));
  ASSIGN_OR_RETURN(environment.listen_fd, Number({"AUTOSP_LISTEN_FD"}));
  environment.local_rank = local_rank.value_or(0);
  environment.local_size = std::max(1, local_size.value_or(1));
  environment.master_port = port.value_or(29500);
  if (environment.master_port > 65535) {
    return Error{Code::kUsage, fmt::format("MASTER_PORT is {}, not a port", environment.master_port), "",
                 "use 1024 to 65535"};
  }
  if (const char* address = Environment("MASTER_ADDR")) {
    environment.master_address = address;
  } else if (environment.world_size > 1) {
    return Error{Code::kUsage, "MASTER_ADDR is not set", "",
                 "set it to the address of rank 0's machine, on every rank"};
  }
  const char* agent = Environment("TORCHELASTIC_USE_AGENT_STORE");
  environment.store_exists = agent != nullptr && std::string_view(agent) == "True";
  return std::optional<RankEnvironment>(environment);
}

Result<std::unique_ptr<Communicator>> Connect(const RankEnvironment& environment, const std::string& digest,
                                              int timeout_seconds) {
  if (environment.world_size == 1) return MakeSingleCommunicator();
  c10::intrusive_ptr<c10d::Store> store;
  try {
    c10d::TCPStoreOptions options;
    options.port = static_cast<uint16_t>(environment.master_port);
    options.isServer = environment.rank == 0 && !environment.store_exists;
    options.numWorkers = static_cast<size_t>(environment.world_size);
    options.waitWorkers = false;
    options.timeout = std::chrono::seconds(timeout_seconds);
    options.masterListenFd = options.isServer ? environment.listen_fd : std::nullopt;
    store = c10::make_intrusive<c10d::PrefixStore>(
        "autosp", c10::make_intrusive<c10d::TCPStore>(environment.master_address, options));
  } catch (const std::exception& e) {
    std::string message = e.what();
    return Error{
        Code::kPeerFailed,
        fmt::format("rank {} does not reach rank 0: {}", environment.rank, message.substr(0, message.find('\n'))),
        fmt::format("{}:{}", environment.master_address, environment.master_port),
        "are MASTER_ADDR and MASTER_PORT those of rank 0, and is it running?"};
  }
  const bool local = environment.local_size == environment.world_size || environment.master_address == "127.0.0.1" ||
                     environment.master_address == "localhost";
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> communicator,
                   MakeGlooCommunicator(store, environment.rank, environment.world_size, local));
  constexpr size_t kWidth = 80;
  std::string mine = digest;
  mine.resize(kWidth);
  std::vector<char> all(kWidth * environment.world_size);
  RETURN_IF_ERROR(communicator->AllGather(mine.data(), all.data(), kWidth));
  for (int r = 0; r < environment.world_size; ++r) {
    if (std::memcmp(all.data(), all.data() + r * kWidth, kWidth) != 0) {
      return Error{Code::kBadInput,
                   fmt::format("rank {} has the package {:.12}, rank 0 {:.12}", r, all.data() + r * kWidth, all.data()),
                   "", "give every rank the same package"};
    }
  }
  return communicator;
}

}  // namespace autospc
