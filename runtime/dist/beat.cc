#include "runtime/dist/beat.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace autospc {
namespace {

constexpr uint32_t kMagic = 0x54414542;  // "BEAT"
constexpr auto kHelloLimit = std::chrono::seconds(2);
constexpr size_t kSecretBytes = 32;

struct Head {
  uint32_t magic = kMagic;
  uint8_t kind = 0;
  uint8_t padding[3] = {};
  int32_t activity = 0;
  int32_t collective = 0;
  int64_t step = 0;
  int32_t instruction = -1;
  int32_t about = -1;
  int32_t code = 0;
  uint32_t text_bytes = 0;
};
static_assert(sizeof(Head) == 40);

struct Hello {
  uint32_t magic = kMagic;
  uint32_t rank = 0;
  std::array<char, kSecretBytes> secret{};
};
static_assert(sizeof(Hello) == 40);

Hello MakeHello(int rank, const std::string& secret) {
  Hello hello;
  hello.rank = static_cast<uint32_t>(rank);
  std::copy_n(secret.data(), std::min(secret.size(), kSecretBytes), hello.secret.data());
  return hello;
}

std::string Join(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank" : "ranks";
  for (size_t i = 0; i < ranks.size(); ++i) text += fmt::format("{} {}", i == 0 ? "" : ",", ranks[i]);
  return text;
}

// The rank that has connected, or -1 for a stranger.
Result<std::pair<int, Socket>> Accept(const Socket& listening, const std::string& secret,
                                      std::chrono::steady_clock::time_point deadline) {
  const auto now = std::chrono::steady_clock::now();
  pollfd waiting{listening.fd(), POLLIN, 0};
  const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - now).count();
  if (left <= 0) return Error{Code::kTimeout, "nobody connected", "", ""};
  if (poll(&waiting, 1, static_cast<int>(std::min<int64_t>(left, 1000))) <= 0)
    return std::pair<int, Socket>(-1, Socket());
  Socket socket(accept4(listening.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!socket.open()) return std::pair<int, Socket>(-1, Socket());
  const int on = 1;
  setsockopt(socket.fd(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  Hello hello;
  const Status heard = ReceiveAll(socket, &hello, sizeof(hello), std::min(deadline, now + kHelloLimit));
  const Hello expected = MakeHello(static_cast<int>(hello.rank), secret);
  if (!heard.ok() || hello.magic != kMagic || hello.secret != expected.secret)
    return std::pair<int, Socket>(-1, Socket());
  return std::pair<int, Socket>(static_cast<int>(hello.rank), std::move(socket));
}

}  // namespace

std::string Encode(const Beat& beat) {
  Head head;
  head.kind = static_cast<uint8_t>(beat.kind);
  head.activity = static_cast<int32_t>(beat.place.activity);
  head.collective = static_cast<int32_t>(beat.place.collective);
  head.step = beat.place.step;
  head.instruction = beat.place.instruction;
  head.about = beat.about;
  head.code = static_cast<int32_t>(beat.code);
  const std::string_view text = std::string_view(beat.what).substr(0, kMaxBeatText);
  head.text_bytes = static_cast<uint32_t>(text.size());
  std::string bytes(reinterpret_cast<const char*>(&head), sizeof(head));
  bytes += text;
  return bytes;
}

Result<std::optional<Beat>> BeatReader::Next() {
  Head head;
  if (pending_.size() < sizeof(head)) return std::optional<Beat>();
  std::memcpy(&head, pending_.data(), sizeof(head));
  const bool known =
      head.kind >= static_cast<uint8_t>(BeatKind::kBeat) && head.kind <= static_cast<uint8_t>(BeatKind::kGoodbye);
  if (head.magic != kMagic || !known || head.text_bytes > kMaxBeatText || head.activity < 0 ||
      head.activity > static_cast<int32_t>(Activity::kEnding) || head.collective < 0 ||
      head.collective > static_cast<int32_t>(CollectiveKind::kBarrier)) {
    return Error{Code::kBadInput, "what a peer sent is no beat", "", ""};
  }
  if (pending_.size() < sizeof(head) + head.text_bytes) return std::optional<Beat>();
  Beat beat;
  beat.kind = static_cast<BeatKind>(head.kind);
  beat.place = {static_cast<Activity>(head.activity), static_cast<CollectiveKind>(head.collective), head.step,
                head.instruction};
  beat.about = head.about;
  beat.code = static_cast<Code>(head.code);
  beat.what = pending_.substr(sizeof(head), head.text_bytes);
  pending_.erase(0, sizeof(head) + head.text_bytes);
  return std::optional<Beat>(std::move(beat));
}

Result<std::vector<Socket>> ConnectRanks(int rank, const std::vector<Contact>& ranks, const Socket& listening,
                                         const std::string& secret, std::chrono::steady_clock::time_point deadline) {
  const int size = static_cast<int>(ranks.size());
  std::vector<Socket> sockets(size);
  const Hello mine = MakeHello(rank, secret);
  for (int r = 0; r < rank; ++r) {
    const auto call = [&]() -> Status {
      ASSIGN_OR_RETURN(sockets[r], Connect(ranks[r].address, ranks[r].port, deadline));
      return SendAll(sockets[r], &mine, sizeof(mine), deadline);
    };
    const Status called = call();
    if (called.ok()) continue;
    return Error{Code::kPeerFailed, fmt::format("rank {} does not reach rank {}: {}", rank, r, called.error().what),
                 fmt::format("{} port {}", ranks[r].address, ranks[r].port),
                 "rank " + std::to_string(r) +
                     " has ended, a firewall stands between them, or --interface must name the "
                     "network that all ranks share"};
  }
  for (int missing = size - 1 - rank; missing > 0;) {
    Result<std::pair<int, Socket>> came = Accept(listening, secret, deadline);
    if (!came.ok()) {
      std::vector<int> absent;
      for (int r = rank + 1; r < size; ++r) {
        if (!sockets[r].open()) absent.push_back(r);
      }
      return Error{Code::kPeerFailed, fmt::format("{} did not connect to rank {} in time", Join(absent), rank),
                   fmt::format("{} port {}", ranks[rank].address, ranks[rank].port),
                   "does a firewall stand between them, or must --interface name the network that all ranks share?"};
    }
    auto& [r, socket] = *came;
    if (r <= rank || r >= size || sockets[r].open()) continue;
    sockets[r] = std::move(socket);
    --missing;
  }
  return sockets;
}

}  // namespace autospc
