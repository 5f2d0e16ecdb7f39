// What ranks tell each other about themselves, beside the collectives: a beat says where a rank is, a failure what
// ended it or whom it misses, a goodbye that it ends in order. And the connections on which they say it.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/base/whereabouts.h"
#include "runtime/dist/network.h"

namespace autospc {

enum class BeatKind : uint8_t { kBeat = 1, kFailure = 2, kGoodbye = 3 };

struct Beat {
  BeatKind kind = BeatKind::kBeat;
  Place place;     // the sender's
  int about = -1;  // kFailure: the rank that failed; the sender itself where it met an error of its own
  Code code = Code::kOk;
  std::string what;  // kFailure: at most kMaxBeatText bytes, longer ones are cut
};

constexpr size_t kMaxBeatText = 2000;

// A message as bytes: a head of fixed size, then the text. All machines of a job have one byte order (x86-64, AArch64).
std::string Encode(const Beat& beat);

// Messages out of a stream that arrives in pieces.
class BeatReader {
 public:
  void Append(std::string_view bytes) { pending_ += bytes; }
  // The next whole message, if there is one. kBadInput: the bytes are none; the connection is of no more use.
  Result<std::optional<Beat>> Next();

 private:
  std::string pending_;
};

struct Contact {
  std::string address;  // numeric
  int port = 0;
};

// Connects `rank` with every other one: calls those below it, is called on `listening` by those above. `secret` is
// what the job's ranks share, so that no stranger is taken for one. The result is indexed by rank, its own entry
// closed. kPeerFailed names the ranks that did not come in time or refused.
Result<std::vector<Socket>> ConnectRanks(int rank, const std::vector<Contact>& ranks, const Socket& listening,
                                         const std::string& secret, std::chrono::steady_clock::time_point deadline);

}  // namespace autospc
