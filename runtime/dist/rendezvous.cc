#include "runtime/dist/rendezvous.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#include <vector>

#include "runtime/dist/cuda_module.h"
#include "runtime/dist/gloo.h"
#include "runtime/dist/gpu_driver.h"

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

// A text of every rank, by rank; longer ones are cut.
Result<std::vector<std::string>> ShareTexts(Communicator& host, const std::string& mine, size_t width) {
  std::string padded = mine;
  padded.resize(width);
  std::string all(width * host.size(), '\0');
  RETURN_IF_ERROR(host.AllGather(padded.data(), all.data(), static_cast<int64_t>(width)));
  std::vector<std::string> texts;
  for (int r = 0; r < host.size(); ++r) {
    const std::string text = all.substr(r * width, width);
    texts.push_back(text.substr(0, text.find('\0')));
  }
  return texts;
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

Meeting::Meeting(c10::intrusive_ptr<c10d::Store> shared, std::unique_ptr<Communicator> between_hosts)
    : store(std::move(shared)), host(std::move(between_hosts)) {}
Meeting::Meeting(Meeting&& other) noexcept = default;
Meeting& Meeting::operator=(Meeting&& other) noexcept = default;
Meeting::~Meeting() = default;

Result<Meeting> Meet(const RankEnvironment& environment, const std::string& digest, int timeout_seconds) {
  if (environment.world_size == 1) return Meeting{nullptr, MakeSingleCommunicator()};
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
  ASSIGN_OR_RETURN(std::unique_ptr<Communicator> host,
                   MakeGlooCommunicator(store, environment.rank, environment.world_size, local));
  constexpr size_t kWidth = 80;
  ASSIGN_OR_RETURN(const std::vector<std::string> digests, ShareTexts(*host, digest, kWidth));
  for (int r = 0; r < environment.world_size; ++r) {
    if (digests[r] != digests[0]) {
      return Error{Code::kBadInput,
                   fmt::format("rank {} has the package {:.12}, rank 0 {:.12}", r, digests[r], digests[0]), "",
                   "give every rank the same package"};
    }
  }
  return Meeting{store, std::move(host)};
}

Result<std::unique_ptr<Communicator>> ConnectGpus(const Meeting& meeting, const RankEnvironment& environment, int gpus,
                                                  const CudaModule& module) {
  // A rank without a usable GPU says so to the others too, which would wait for it.
  int gpu = 0;
  const auto identify = [&]() -> Result<std::string> {
    ASSIGN_OR_RETURN(gpu, GpuOfRank(gpus, environment.local_rank));
    return module.gpu_id(gpu);
  };
  Result<std::string> id = identify();
  ASSIGN_OR_RETURN(const std::vector<std::string> ids, ShareTexts(*meeting.host, id.ok() ? *id : "", 320));
  if (!id.ok()) return std::move(id).error();
  for (size_t r = 0; r < ids.size(); ++r) {
    if (ids[r].empty()) {
      return Error{Code::kPeerFailed, fmt::format("rank {} has no GPU", r), "", "its own error says why"};
    }
  }
  RETURN_IF_ERROR(CheckGpusDiffer(ids));
  c10::intrusive_ptr<c10d::Store> store = meeting.store;
  if (!store) store = c10::make_intrusive<c10d::HashStore>();
  return module.connect(c10::make_intrusive<c10d::PrefixStore>("nccl", store), environment.rank, environment.world_size,
                        gpu);
}

}  // namespace autospc
