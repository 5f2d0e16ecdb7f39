#include "runtime/dist/watchdog.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <tuple>

#include "runtime/base/log.h"

namespace autospc {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLongestInterval{1000};
constexpr milliseconds kShortestInterval{20};
constexpr milliseconds kLastWords{500};  // for what is still to be sent when the watchdog ends
// Of signs that arrive together: a rank that is gone without a word could not be an echo, one that says what it met
// may.
constexpr int kGone = 0, kSaid = 1, kSilent = 2;

milliseconds IntervalFor(milliseconds timeout) {
  if (timeout.count() == 0) return kLongestInterval;
  return std::clamp(timeout / 6, kShortestInterval, kLongestInterval);
}

double Seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

bool IsEcho(Code code) { return code == Code::kPeerFailed || code == Code::kTimeout || code == Code::kInterrupted; }

}  // namespace

void WatchdogOptions::EndProcess(const Error& error) {
  LogError(error);
  _exit(static_cast<int>(error.code));
}

Watchdog::Watchdog(const WatchdogOptions& options, std::vector<Socket> peers)
    : options_(options), interval_(IntervalFor(options.timeout)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  for (Socket& socket : peers) {
    Peer peer;
    peer.socket = std::move(socket);
    peer.heard = Clock::now();
    peers_.push_back(std::move(peer));
  }
  options_.mine->watched.store(1, std::memory_order_relaxed);
  thread_ = std::thread([this] { Run(); });
}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  eventfd_write(wake_.fd(), 1);
  thread_.join();
  options_.mine->watched.store(2, std::memory_order_relaxed);
}

void Watchdog::SetDescribe(std::function<std::string(int)> describe) {
  std::lock_guard lock(mutex_);
  describe_ = std::move(describe);
}

void Watchdog::SetAbort(std::function<void()> abort) {
  std::lock_guard lock(mutex_);
  abort_ = std::move(abort);
}

std::optional<Error> Watchdog::Failure() const {
  std::lock_guard lock(mutex_);
  return failure_;
}

std::optional<Error> Watchdog::WaitForFailure(milliseconds limit) const {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limit, [&] { return failure_.has_value(); });
  return failure_;
}

Error Watchdog::Explain(Error met) {
  // A connection of the transport may close a moment before those of the watchdogs are seen to.
  std::optional<Error> cause = IsEcho(met.code) ? WaitForFailure(options_.settle + 2 * interval_) : Failure();
  if (cause) return *cause;
  Beat words;
  words.kind = BeatKind::kFailure;
  words.about = options_.rank;
  words.code = met.code;
  words.what = met.what;
  {
    std::lock_guard lock(mutex_);
    announcement_ = std::move(words);
  }
  eventfd_write(wake_.fd(), 1);
  return met;
}

void Watchdog::Run() {
  auto next_beat = Clock::now(), last_round = next_beat;
  bool announced = false;
  std::vector<pollfd> waiting;
  while (true) {
    waiting.assign(1, {wake_.fd(), POLLIN, 0});
    for (const Peer& peer : peers_) {
      const short events = static_cast<short>(POLLIN | (peer.unsent.empty() ? 0 : POLLOUT));
      waiting.push_back({peer.socket.fd(), events, 0});  // poll skips descriptors below 0
    }
    auto until = next_beat;
    if (decide_at_) until = std::min(until, *decide_at_);
    const auto left = std::chrono::duration_cast<milliseconds>(until - Clock::now()).count();
    poll(waiting.data(), waiting.size(), static_cast<int>(std::max<int64_t>(0, left + 1)));

    const auto now = Clock::now();
    ++round_;
    // Time in which this process itself stood still (it was stopped, or the machine slept) is nobody's silence.
    if (now - last_round > 3 * interval_) {
      for (Peer& peer : peers_) peer.heard += now - last_round;
    }
    last_round = now;
    eventfd_t ignored;
    eventfd_read(wake_.fd(), &ignored);
    for (size_t r = 0; r < peers_.size(); ++r) {
      if (waiting[r + 1].revents != 0) Listen(static_cast<int>(r));
    }
    bool stopping = false;
    std::optional<Beat> announcement;
    {
      std::lock_guard lock(mutex_);
      stopping = stopping_;
      announcement.swap(announcement_);
    }
    if (announcement) {
      Send(*announcement);
      announced = true;
    }
    if (stopping) break;
    CheckSilence(now);
    if (decide_at_ && now >= *decide_at_) Decide();
    if (end_at_ && now >= *end_at_) {
      options_.end(*Failure());
      end_at_.reset();
    }
    if (now >= next_beat) {
      next_beat = now + interval_;
      options_.mine->beats.fetch_add(1, std::memory_order_relaxed);
      Beat beat;
      beat.place = options_.mine->Read();
      Send(beat);
    }
    for (Peer& peer : peers_) Flush(peer);
  }
  if (!announced && !Failure()) {
    Beat goodbye;
    goodbye.kind = BeatKind::kGoodbye;
    Send(goodbye);
  }
  const auto limit = Clock::now() + kLastWords;
  const auto unsent = [&] {
    return std::any_of(peers_.begin(), peers_.end(), [](const Peer& p) { return !p.unsent.empty(); });
  };
  for (; unsent() && Clock::now() < limit; std::this_thread::sleep_for(milliseconds(5))) {
    for (Peer& peer : peers_) Flush(peer);
  }
}

void Watchdog::Send(const Beat& beat) {
  const std::string bytes = Encode(beat);
  for (Peer& peer : peers_) {
    // A beat to a peer that reads no more would be one more of the same.
    if (!peer.socket.open() || (beat.kind == BeatKind::kBeat && !peer.unsent.empty())) continue;
    peer.unsent += bytes;
    Flush(peer);
  }
}

void Watchdog::Flush(Peer& peer) {
  while (!peer.unsent.empty() && peer.socket.open()) {
    const ssize_t n = send(peer.socket.fd(), peer.unsent.data(), peer.unsent.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      peer.unsent.erase(0, static_cast<size_t>(n));
    } else {
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno != EAGAIN) peer.unsent.clear();  // it is gone: reading tells
      return;
    }
  }
  if (!peer.socket.open()) peer.unsent.clear();
}

void Watchdog::Listen(int rank) {
  Peer& peer = peers_[rank];
  std::array<char, 16384> buffer;
  bool gone = false;
  while (peer.socket.open()) {
    const ssize_t n = recv(peer.socket.fd(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) {
      peer.reader.Append({buffer.data(), static_cast<size_t>(n)});
      peer.heard = Clock::now();
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) break;
    gone = true;
    break;
  }
  while (true) {
    Result<std::optional<Beat>> next = peer.reader.Next();
    if (!next.ok()) {
      gone = true;
      break;
    }
    if (!next->has_value()) break;
    const Beat& beat = **next;
    if (beat.kind == BeatKind::kBeat) {
      peer.place = beat.place;
    } else if (beat.kind == BeatKind::kGoodbye) {
      peer.left = true;
    } else if (beat.about == rank) {
      Note({rank, IsEcho(beat.code) ? beat.code : Code::kPeerFailed, fmt::format("rank {} failed: {}", rank, beat.what),
            kSaid, round_, beat.code});
      peer.left = true;
    } else {
      Note({beat.about, beat.code, beat.what, beat.code == Code::kTimeout ? kSilent : kGone, round_});
      peer.left = true;
    }
  }
  if (!gone) return;
  peer.socket.Close();
  if (!peer.left)
    Note({rank, Code::kPeerFailed, fmt::format("rank {} is gone: its connections closed without a word", rank), kGone,
          round_});
}

void Watchdog::CheckSilence(Clock::time_point now) {
  if (options_.timeout.count() == 0 || !signs_.empty()) return;
  for (size_t r = 0; r < peers_.size(); ++r) {
    const Peer& peer = peers_[r];
    if (!peer.socket.open() || peer.left || now - peer.heard < options_.timeout) continue;
    Note({static_cast<int>(r), Code::kTimeout,
          fmt::format("rank {} has been silent for {:.3g} s: it is stopped, or its machine is", r,
                      Seconds(options_.timeout)),
          kSilent, round_});
  }
}

void Watchdog::Note(Sign sign) {
  const bool known = std::any_of(signs_.begin(), signs_.end(), [&](const Sign& s) { return s.about == sign.about; });
  if (known) return;
  signs_.push_back(std::move(sign));
  if (!decide_at_ && !Failure()) decide_at_ = Clock::now() + options_.settle;
}

void Watchdog::Decide() {
  decide_at_.reset();
  const auto first = std::min_element(signs_.begin(), signs_.end(), [](const Sign& a, const Sign& b) {
    return std::tuple(a.weight == kSilent, a.round, a.weight) < std::tuple(b.weight == kSilent, b.round, b.weight);
  });
  Error error = Describe(*first);
  options_.mine->blamed_code.store(static_cast<int32_t>(first->own), std::memory_order_relaxed);
  options_.mine->blamed.store(first->about, std::memory_order_relaxed);
  std::function<void()> abort;
  {
    std::lock_guard lock(mutex_);
    failure_ = std::move(error);
    abort = abort_;
  }
  changed_.notify_all();
  Beat words;
  words.kind = BeatKind::kFailure;
  words.about = first->about;
  words.code = first->code;
  words.what = first->what;
  Send(words);
  if (abort) abort();
  end_at_ = Clock::now() + options_.grace;
}

Error Watchdog::Describe(const Sign& sign) const {
  std::function<std::string(int)> describe;
  {
    std::lock_guard lock(mutex_);
    describe = describe_;
  }
  const auto at = [&](const Place& place) {
    return autospc::Describe(place, describe && place.instruction >= 0 ? describe(place.instruction) : "");
  };
  Error error{sign.code, sign.what, fmt::format("rank {}: {}", options_.rank, at(options_.mine->Read())), ""};
  const bool peer = sign.about >= 0 && sign.about < static_cast<int>(peers_.size()) && sign.about != options_.rank;
  if (peer) {
    const Peer& p = peers_[sign.about];
    error.where += fmt::format("\n  rank {} was last heard {:.1f} s before: {}", sign.about,
                               Seconds(Clock::now() - p.heard), at(p.place));
  }
  if (sign.about == options_.rank) {
    error.hint = "the others gave this rank up: was it stopped, or was its machine asleep or cut off?";
  } else if (sign.weight == kSaid) {
    error.hint = "its own error says more";
  } else if (sign.code == Code::kTimeout) {
    error.hint = "is it stopped (SIGSTOP, a debugger), or its machine cut off? --heartbeat-timeout sets the limit";
  } else {
    error.hint = "it was killed, ran out of memory (dmesg on its machine tells), or its machine went down";
  }
  return error;
}

}  // namespace autospc
