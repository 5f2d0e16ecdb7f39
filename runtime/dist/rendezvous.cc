#include "runtime/dist/rendezvous.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <random>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "runtime/dist/cuda_module.h"
#include "runtime/dist/gloo.h"
#include "runtime/dist/gpu_driver.h"
#include "runtime/dist/job_store.h"
#include "runtime/dist/network.h"
#include "runtime/dist/rank_card.h"

namespace autospc {
namespace {

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

std::string NewSecret() {
  std::random_device random;
  std::string secret;
  while (secret.size() < 32) secret += fmt::format("{:08x}", random());
  return secret;
}

// The interface that people chose, by flag or for Gloo; "" for none. Gloo takes several, the first one counts here.
std::string ChosenInterface(const std::string& flag) {
  if (!flag.empty()) return flag;
  const char* gloo = std::getenv("GLOO_SOCKET_IFNAME");
  const std::string names = gloo == nullptr ? "" : gloo;
  return names.substr(0, names.find(','));
}

Result<RankCard> MakeCard(const RankEnvironment& environment, const MeetOptions& options) {
  RankCard card;
  card.world_size = environment.world_size;
  card.host = HostIdentity();
  card.terms = options.terms;
  for (Term& term : MachineTerms()) card.terms.push_back(std::move(term));
  if (environment.rank == 0) card.secret = NewSecret();
  ASSIGN_OR_RETURN(const WayTo way, AddressTowards(environment.master_address, environment.master_port));
  card.address = way.from;
  card.master = way.to;
  const std::string interface = ChosenInterface(options.interface);
  if (interface.empty()) return card;
  card.interface_given = true;
  ASSIGN_OR_RETURN(card.address, AddressOfInterface(interface));
  return card;
}

Status CheckCards(const std::vector<RankCard>& cards, std::vector<std::string>* warnings) {
  std::vector<std::vector<Term>> terms;
  for (size_t r = 0; r < cards.size(); ++r) {
    terms.push_back(cards[r].terms);
    terms.back().insert(terms.back().begin(), {"the number of ranks", std::to_string(cards[r].world_size)});
  }
  return CheckTerms(terms, warnings);
}

std::string Encode(const Contact& contact) { return fmt::format("{} {}", contact.address, contact.port); }

// A peer's failure ends what waits for it: all that this rank communicates by.
void AbortOnFailure(const Meeting& meeting) {
  using Transport = std::weak_ptr<Communicator>;
  meeting.watchdog->SetAbort([transports = std::array<Transport, 2>{meeting.host, meeting.device}] {
    for (const Transport& transport : transports) {
      if (const auto alive = transport.lock()) alive->Abort();
    }
  });
}

Contact DecodeContact(const std::string& text) {
  const size_t space = text.find(' ');
  return {text.substr(0, space), space == std::string::npos ? 0 : std::atoi(text.c_str() + space)};
}

}  // namespace

Meeting::Meeting(c10::intrusive_ptr<c10d::Store> shared, std::shared_ptr<Communicator> between_hosts)
    : store(std::move(shared)), host(std::move(between_hosts)) {}
Meeting::Meeting(Meeting&& other) noexcept = default;
Meeting& Meeting::operator=(Meeting&& other) noexcept = default;
Meeting::~Meeting() = default;

void Meeting::UseDevice(std::unique_ptr<Communicator> gpus) {
  device = std::move(gpus);
  device->SetWhereabouts(&MyWhereabouts());
  if (watchdog) AbortOnFailure(*this);
}

Error Meeting::Explain(Error met) const { return watchdog ? watchdog->Explain(std::move(met)) : met; }

Result<Meeting> Meet(const RankEnvironment& environment, const MeetOptions& options) {
  if (environment.world_size == 1) return Meeting{nullptr, MakeSingleCommunicator()};
  MyWhereabouts().Set(Activity::kMeeting);
  RaiseFileLimit();
  IgnoreBrokenPipes();
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(options.timeout_seconds);
  ASSIGN_OR_RETURN(const RankCard mine, MakeCard(environment, options));
  ASSIGN_OR_RETURN(const JobStore store, JobStore::Open(environment, deadline));
  ASSIGN_OR_RETURN(const std::vector<std::string> texts, store.Share("card", Encode(mine), deadline));
  std::vector<RankCard> cards;
  for (size_t r = 0; r < texts.size(); ++r) {
    ASSIGN_OR_RETURN(RankCard card, DecodeRankCard(texts[r], fmt::format("what rank {} says of itself", r)));
    cards.push_back(std::move(card));
  }
  Meeting meeting{store.store(), nullptr};
  const Status agreed = CheckCards(cards, &meeting.warnings);
  if (!agreed.ok()) {
    store.LetOthersRead("card");
    return agreed.error();
  }
  const std::string address = FindNeighbours(cards, environment.rank).address;
  ASSIGN_OR_RETURN(const auto listening, Listen(address));
  ASSIGN_OR_RETURN(const std::vector<std::string> contact_texts,
                   store.Share("contact", Encode(Contact{address, listening.second}), deadline));
  std::vector<Contact> contacts;
  for (const std::string& text : contact_texts) contacts.push_back(DecodeContact(text));
  ASSIGN_OR_RETURN(std::vector<Socket> peers,
                   ConnectRanks(environment.rank, contacts, listening.first, cards[0].secret, deadline));
  WatchdogOptions watch;
  watch.rank = environment.rank;
  watch.timeout = std::chrono::seconds(options.heartbeat_seconds);
  watch.mine = &MyWhereabouts();
  meeting.watchdog = std::make_unique<Watchdog>(watch, std::move(peers));
  Result<std::unique_ptr<Communicator>> host =
      MakeGlooCommunicator(store.store(), environment.rank, environment.world_size, address);
  if (!host.ok()) return meeting.Explain(std::move(host).error());
  meeting.host = std::move(host).value();
  meeting.host->SetWhereabouts(&MyWhereabouts());
  AbortOnFailure(meeting);
  return meeting;
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
