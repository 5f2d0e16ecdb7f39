// Watches over the ranks of a job from inside each of them. A thread tells every other rank once in a while that this
// one lives and where it is, and listens to theirs. It does so whatever the main thread does, so that a long kernel is
// no failure, while a rank that is stopped, or whose machine is gone, falls silent.
//
// A peer has failed when its connection closes without a goodbye (it was killed), when it says so itself, when another
// rank says so, or when it has been silent for the timeout. The first cause counts, not its echoes: what arrives within
// a moment of the first sign is weighed together, and every rank tells the others what it found. Then the transport is
// aborted, so that the main thread leaves the collective it waits in; a main thread that does not end within the grace
// (it is in a long kernel, or connecting) is ended with the process.
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/base/whereabouts.h"
#include "runtime/dist/beat.h"
#include "runtime/dist/network.h"

namespace autospc {

struct WatchdogOptions {
  using Milliseconds = std::chrono::milliseconds;
  int rank = 0;
  Milliseconds timeout{30'000};  // of silence; 0: silence is no failure, closed connections are
  Milliseconds settle{300};      // from the first sign of a failure to the verdict
  Milliseconds grace{2'000};     // from the verdict to the end of the process
  Whereabouts* mine = nullptr;   // this rank's; must outlive the watchdog
  // Ends the process with an error that the main thread did not return in time.
  std::function<void(const Error&)> end = EndProcess;

  static void EndProcess(const Error& error);  // says it on stderr and exits with its code, at once
};

class Watchdog {
 public:
  // `peers` is indexed by rank; this rank's own entry is closed.
  Watchdog(const WatchdogOptions& options, std::vector<Socket> peers);
  // Says goodbye, unless a failure is known, and closes the connections.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;

  // What the text of an instruction is ("instruction 3 of 90 (aten.mm), from model.py:7"), and how to end the
  // collectives that wait: called from the watchdog's thread until it is set anew; empty ones are not called.
  void SetDescribe(std::function<std::string(int instruction)> describe);
  void SetAbort(std::function<void()> abort);

  // A peer's failure, once there is a verdict: kPeerFailed, or kTimeout for one that is silent, with where this rank
  // was and where the peer was last heard.
  std::optional<Error> Failure() const;
  // Waits until there is one or the limit has passed.
  std::optional<Error> WaitForFailure(std::chrono::milliseconds limit) const;

  // The error that the main thread ends with, given the one it met. Where that is the echo of a peer's failure, the
  // peer's; else it is this rank's own, which the others are told.
  Error Explain(Error met);

 private:
  struct Peer {
    Socket socket;
    BeatReader reader;
    std::string unsent;
    Place place;
    std::chrono::steady_clock::time_point heard;
    bool left = false;  // said goodbye
  };
  struct Sign {
    int about = -1;
    Code code = Code::kPeerFailed;  // that this rank ends with
    std::string what;
    int weight = 0;  // of signs of one round the least is the likeliest cause
    int64_t round = 0;
    Code own = Code::kPeerFailed;  // that the failed rank ends with
  };

  void Run();
  void Send(const Beat& beat);
  void Flush(Peer& peer);
  void Listen(int rank);
  void CheckSilence(std::chrono::steady_clock::time_point now);
  void Note(Sign sign);
  void Decide();
  Error Describe(const Sign& sign) const;

  const WatchdogOptions options_;
  const std::chrono::milliseconds interval_;
  Socket wake_;  // an eventfd
  std::vector<Peer> peers_;
  std::vector<Sign> signs_;
  int64_t round_ = 0;
  std::optional<std::chrono::steady_clock::time_point> decide_at_, end_at_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::function<std::string(int)> describe_;
  std::function<void()> abort_;
  std::optional<Error> failure_;
  std::optional<Beat> announcement_;  // to be sent by the thread
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace autospc
