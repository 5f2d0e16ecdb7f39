#include "runtime/dist/job_store.h"

#include <algorithm>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

namespace autospc {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr char kAbsence[] = "absence";
constexpr milliseconds kPause{200};         // between two attempts to reach the store
constexpr milliseconds kLongestPause{100};  // between two looks into it

std::string FirstLine(const std::exception& e) {
  const std::string message = e.what();
  return message.substr(0, message.find('\n'));
}

milliseconds Left(JobStore::Deadline deadline) {
  return std::max(milliseconds(1), std::chrono::duration_cast<milliseconds>(deadline - Clock::now()));
}

// Throws as c10d does.
c10::intrusive_ptr<c10d::Store> Connect(const RankEnvironment& environment, bool host, milliseconds limit) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<uint16_t>(environment.master_port);
  options.isServer = host;
  options.numWorkers = static_cast<size_t>(environment.world_size);
  options.waitWorkers = false;
  options.timeout = limit;
  options.masterListenFd = host ? environment.listen_fd : std::nullopt;
  return c10::make_intrusive<c10d::PrefixStore>(
      "autosp" + environment.store_prefix, c10::make_intrusive<c10d::TCPStore>(environment.master_address, options));
}

std::vector<uint8_t> Bytes(const std::string& text) { return {text.begin(), text.end()}; }

std::string Key(const std::string& topic, int rank) { return fmt::format("{}/{}", topic, rank); }

}  // namespace

JobStore::JobStore(const RankEnvironment& environment, c10::intrusive_ptr<c10d::Store> store)
    : rank_(environment.rank),
      size_(environment.world_size),
      where_(fmt::format("{} port {}", environment.master_address, environment.master_port)),
      store_(std::move(store)) {}

JobStore::JobStore(JobStore&& other) noexcept = default;
JobStore::~JobStore() = default;

Result<JobStore> JobStore::Open(const RankEnvironment& environment, Deadline deadline) {
  const bool host = environment.rank == 0 && !environment.store_exists;
  while (true) {
    std::string failure;
    try {
      JobStore opened(environment, Connect(environment, host, Left(deadline)));
      if (opened.store_->add(Key("joined", environment.rank), 1) == 1) return opened;
      failure = "the store of an earlier start still answers";
    } catch (const std::exception& e) {
      failure = FirstLine(e);
    }
    if (environment.attempt > 0 && Clock::now() + kPause < deadline) {
      std::this_thread::sleep_for(kPause);
      continue;
    }
    if (host) {
      return Error{Code::kPeerFailed, "rank 0 can't open the job's store: " + failure,
                   fmt::format("port {}", environment.master_port), "is the port taken? MASTER_PORT names another"};
    }
    return Error{Code::kPeerFailed, fmt::format("rank {} does not reach rank 0: {}", environment.rank, failure),
                 fmt::format("{}:{}", environment.master_address, environment.master_port),
                 "are MASTER_ADDR and MASTER_PORT those of rank 0, and is it running?"};
  }
}

// Asks instead of waiting in the store, which would log each time that a wait is over without a key.
Status JobStore::WaitFor(const std::vector<std::string>& keys, Deadline deadline) const {
  size_t next = 0;  // the first key that is missing
  for (milliseconds pause{1};; pause = std::min(2 * pause, kLongestPause)) {
    try {
      while (next < keys.size() && store_->check({keys[next]})) ++next;
      if (next == keys.size()) return Ok();
      if (store_->check({kAbsence})) {
        const std::vector<uint8_t> told = store_->get(kAbsence);
        return Error{Code::kPeerFailed, std::string(told.begin(), told.end()), "", "its own error says more"};
      }
      if (Clock::now() < deadline) {
        std::this_thread::sleep_for(std::min(pause, Left(deadline)));
        continue;
      }
      std::string missing;
      int count = 0;
      for (size_t r = next; r < keys.size(); ++r) {
        if (store_->check({keys[r]})) continue;
        if (++count <= 16) missing += fmt::format("{}{}", missing.empty() ? "" : ", ", r);
      }
      return Error{Code::kPeerFailed,
                   fmt::format("{} {}{} did not come", count == 1 ? "rank" : "ranks", missing, count > 16 ? ", …" : ""),
                   where_, "were all of them started, with the same address and port of rank 0?"};
    } catch (const std::exception& e) {
      return Error{Code::kPeerFailed, "rank 0 is gone before the ranks had met: " + FirstLine(e), where_,
                   "look at what rank 0 says"};
    }
  }
}

Result<std::vector<std::string>> JobStore::Share(const std::string& topic, const std::string& mine,
                                                 Deadline deadline) const {
  std::vector<std::string> keys;
  for (int r = 0; r < size_; ++r) keys.push_back(Key(topic, r));
  try {
    store_->set(keys[rank_], Bytes(mine));
    RETURN_IF_ERROR(WaitFor(keys, deadline));
    std::vector<std::string> all;
    for (const std::vector<uint8_t>& text : store_->multiGet(keys)) all.emplace_back(text.begin(), text.end());
    store_->add("read/" + topic, 1);
    return all;
  } catch (const std::exception& e) {
    return Error{Code::kPeerFailed, "rank 0 is gone before the ranks had met: " + FirstLine(e), where_,
                 "look at what rank 0 says"};
  }
}

void JobStore::LetOthersRead(const std::string& topic) const {
  const auto limit = Clock::now() + std::chrono::seconds(2);
  try {
    while (Clock::now() < limit && store_->add("read/" + topic, 0) < size_)
      std::this_thread::sleep_for(milliseconds(20));
  } catch (const std::exception&) {
    // The store is another's, and gone.
  }
}

void AnnounceAbsence(const RankEnvironment& environment, const std::string& who, const Error& error) {
  if (environment.world_size < 2 || environment.master_address.empty()) return;
  const bool host = environment.rank == 0 && !environment.store_exists;
  try {
    const auto store = Connect(environment, host, std::chrono::seconds(2));
    store->set(kAbsence, Bytes(fmt::format("{} can't begin: {}", who, error.what)));
    if (host) std::this_thread::sleep_for(std::chrono::seconds(2));  // for those that come to ask
  } catch (const std::exception&) {
    // Nobody waits, or nobody that can be reached.
  }
}

}  // namespace autospc
