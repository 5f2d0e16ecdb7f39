#include "runtime/train/launcher.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <optional>

#include "runtime/base/log.h"
#include "runtime/base/status_line.h"
#include "runtime/base/whereabouts.h"
#include "runtime/dist/network.h"
#include "runtime/metrics/progress_bar.h"
#include "runtime/train/first_cause.h"
#include "runtime/train/line_stream.h"

namespace autospc::train {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kTick{50};               // while ranks are ending
constexpr milliseconds kUsualTick{500};         // else: how often beats are looked at
constexpr milliseconds kWatchedPatience{3500};  // for ranks whose watchdogs end them (runtime/dist/watchdog.h)
constexpr milliseconds kCausePatience{2000};    // for the one that says why, where others only lost a peer
constexpr milliseconds kGrace{2000};            // between asking ranks to end and ending them
constexpr milliseconds kAfterPeers{2500};       // the peers of a silent rank speak first
// Added to the kernel's own score when memory is short (proc(5), oom_score_adj): a rank goes, and this process says so.
constexpr char kOomScore[] = "500";

Error SystemError(const char* what) {
  return Error{Code::kFailed, fmt::format("{}: {}", what, std::strerror(errno)), "", ""};
}

struct Child {
  pid_t pid = -1;
  bool running = false;
  bool asked = false;  // a signal of ours is on its way
  SharedWhereabouts whereabouts;
  int64_t beats = 0;
  Clock::time_point heard;  // when `beats` last changed
};

class Job {
 public:
  explicit Job(const LaunchOptions& options) : options_(options), oom_kills_(OutOfMemoryKills()) {}

  Result<LaunchOutcome> Run() {
    Socket listening;
    int port = options_.master_port;
    if (options_.node == 0) {
      // Rank 0 inherits the socket, so that nobody can take the port between choosing it and using it.
      Result<std::pair<Socket, int>> made =
          options_.nodes == 1 ? Listen("127.0.0.1") : Listen("", options_.master_port);
      if (!made.ok()) return std::move(made).error();
      listening = std::move(made->first);
      port = made->second;
    }
    sigset_t signals;
    sigemptyset(&signals);
    for (int s : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, s);
    if (options_.pass_signals_on) sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, &old_mask_);
    const Socket signal_fd(signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK));
    if (!signal_fd.open()) return SystemError("signalfd");
    for (int r = 0; r < options_.ranks; ++r) {
      Status started = Start(r, listening.fd(), port);
      if (!started.ok()) {
        End(SIGKILL);
        while (Reap()) usleep(1000);
        sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
        return std::move(started).error();
      }
    }
    listening.Close();
    Watch(signal_fd.fd());
    EndStatusLine();
    sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
    if (interrupted_) return LaunchOutcome{static_cast<int>(Code::kInterrupted), false};
    Say();
    return LaunchOutcome{static_cast<int>(cause_.code()), !asked_to_end_ && MayPass()};
  }

 private:
  int GlobalRank(size_t local) const { return options_.node * options_.ranks + static_cast<int>(local); }

  Status Start(int local, int listen_fd, int port) {
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return SystemError("pipe");
    ASSIGN_OR_RETURN(SharedWhereabouts whereabouts, SharedWhereabouts::Create());
    const int rank = GlobalRank(local);
    const bool hosts_store = rank == 0;
    // All that allocates is made before the fork.
    std::vector<std::string> environment;
    for (char** e = environ; *e != nullptr; ++e) environment.emplace_back(*e);
    auto set = [&](const std::string& name, const std::string& value) {
      std::erase_if(environment, [&](const std::string& e) { return e.starts_with(name + "="); });
      environment.push_back(name + "=" + value);
    };
    set("RANK", std::to_string(rank));
    set("LOCAL_RANK", std::to_string(local));
    set("WORLD_SIZE", std::to_string(options_.nodes * options_.ranks));
    set("LOCAL_WORLD_SIZE", std::to_string(options_.ranks));
    set("MASTER_ADDR", options_.nodes == 1 ? "127.0.0.1" : options_.master_address);
    set("MASTER_PORT", std::to_string(port));
    set("AUTOSP_LAUNCHED", "1");
    set("AUTOSP_ATTEMPT", std::to_string(options_.attempt));
    set("AUTOSP_WHEREABOUTS_FD", std::to_string(whereabouts.fd()));
    if (hosts_store) set("AUTOSP_LISTEN_FD", std::to_string(listen_fd));
    if (rank == 0 && HasStatusLine()) set(metrics::kWantsProgress, "1");
    for (const auto& [name, value] : options_.environment) set(name, value);
    std::vector<std::string> arguments = {options_.program};
    arguments.insert(arguments.end(), options_.arguments.begin(), options_.arguments.end());
    std::vector<char*> argv, envp;
    for (std::string& a : arguments) argv.push_back(a.data());
    for (std::string& e : environment) envp.push_back(e.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);

    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) return SystemError("fork");
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (const int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC); score >= 0) {
        (void)!write(score, kOomScore, sizeof(kOomScore) - 1);
        close(score);
      }
      if (getppid() != parent) _exit(static_cast<int>(Code::kPeerFailed));
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      if (hosts_store) fcntl(listen_fd, F_SETFD, 0);
      fcntl(whereabouts.fd(), F_SETFD, 0);
      sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
      execve(argv[0], argv.data(), envp.data());
      _exit(127);
    }
    close(out[1]);
    close(err[1]);
    const bool alone = options_.nodes * options_.ranks == 1;
    const std::string prefix = alone ? "" : fmt::format("[rank {}] ", rank);
    streams_.emplace_back(out[0], STDOUT_FILENO, rank == 0 ? "" : prefix);
    streams_.emplace_back(err[0], STDERR_FILENO, prefix);
    children_.push_back({pid, true, false, std::move(whereabouts), 0, Clock::now()});
    return Ok();
  }

  void Watch(int signal_fd) {
    auto last = Clock::now();
    while (true) {
      std::vector<pollfd> fds = {{signal_fd, POLLIN, 0}};
      for (const LineStream& s : streams_) fds.push_back({s.fd(), POLLIN, 0});
      const auto tick = ends_at_ ? kTick : kUsualTick;
      if (poll(fds.data(), fds.size(), static_cast<int>(tick.count())) < 0 && errno != EINTR) break;
      for (size_t i = fds.size(); i-- > 1;) {
        if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !streams_[i - 1].Pump()) {
          close(streams_[i - 1].fd());
          streams_.erase(streams_.begin() + static_cast<int64_t>(i) - 1);
        }
      }
      TakeSignals(signal_fd);
      const auto now = Clock::now();
      // Time in which this process itself stood still is no rank's silence.
      if (now - last > 4 * kUsualTick) {
        for (Child& child : children_) child.heard += now - last;
      }
      last = now;
      LookAtBeats(now);
      const bool left = Reap();
      if (!left) break;
      if (ends_at_ && now >= *ends_at_) {
        // First those that would never notice are asked, then all are ended.
        const bool asked = std::any_of(children_.begin(), children_.end(), [](const Child& c) { return c.asked; });
        End(asked ? SIGKILL : SIGTERM);
        ends_at_ = now + kGrace;
      }
    }
    for (LineStream& s : streams_) {
      fcntl(s.fd(), F_SETFL, O_NONBLOCK);
      s.Pump();
      close(s.fd());
    }
  }

  void TakeSignals(int signal_fd) {
    signalfd_siginfo info{};
    while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
      const int signal = static_cast<int>(info.ssi_signo);
      if (signal == SIGCHLD) continue;
      const bool passes = options_.pass_signals_on && (signal == SIGTERM || signal == SIGUSR1) && !asked_to_end_;
      asked_to_end_ = true;
      if (passes) {
        for (const Child& child : children_) {
          if (child.running) kill(child.pid, signal);
        }
        continue;
      }
      interrupted_ = true;
      End(SIGTERM);
      ends_at_ = Clock::now() + kGrace;
    }
  }

  // Notes which ranks have beaten, and whether one that should is silent.
  void LookAtBeats(Clock::time_point now) {
    for (size_t r = 0; r < children_.size(); ++r) {
      Child& child = children_[r];
      const int64_t beats = child.whereabouts->beats.load(std::memory_order_relaxed);
      const bool watched = child.whereabouts->watched.load(std::memory_order_relaxed) == 1;
      if (beats != child.beats || !watched) {
        child.beats = beats;
        child.heard = now;
      }
      const auto limit = std::chrono::seconds(options_.heartbeat_seconds) + kAfterPeers;
      if (options_.heartbeat_seconds == 0 || !child.running || now - child.heard < limit || silent_) continue;
      cause_.Silent(GlobalRank(r));
      FindSilent(now);
      Failed();
    }
  }

  // Remembers the rank that has been silent longest, if one has.
  void FindSilent(Clock::time_point now) {
    if (silent_) return;
    for (size_t r = 0; r < children_.size(); ++r) {
      const Child& child = children_[r];
      const bool beating = now - child.heard < 3 * kUsualTick && ProcessState(child.pid) != 'T';
      if (!child.running || beating) continue;
      if (!silent_ || child.heard < children_[*silent_].heard) silent_ = r;
    }
    if (silent_) {
      silent_state_ = ProcessState(children_[*silent_].pid);
      silent_for_ = now - children_[*silent_].heard;
    }
  }

  // Takes the ranks that have ended; false when none is left.
  bool Reap() {
    bool left = false, news = false;
    for (size_t r = 0; r < children_.size(); ++r) {
      Child& child = children_[r];
      if (!child.running) continue;
      int status = 0;
      if (waitpid(child.pid, &status, WNOHANG) != child.pid) {
        left = true;
        continue;
      }
      child.running = false;
      const bool decided = cause_.decided();
      cause_.Ended(GlobalRank(r), status, child.asked);
      if (decided && !child.asked && WIFSIGNALED(status)) {
        // It can't have said so itself.
        Log(LogLevel::kWarning, fmt::format("rank {} was ended by signal {} ({}) as well", GlobalRank(r), WTERMSIG(status),
                                            strsignal(WTERMSIG(status))));
      }
      news = news || !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
    if (news) Failed();
    return left;
  }

  // A rank has failed: how long the others may take to end by themselves.
  void Failed() {
    EndStatusLine();
    const auto now = Clock::now();
    if (cause_.code() == Code::kTimeout) FindSilent(now);
    const auto any = [&](auto&& is) {
      return std::any_of(children_.begin(), children_.end(), [&](const Child& c) { return c.running && is(c); });
    };
    if (!cause_.failed() || any([](const Child& c) { return c.asked; })) return;
    milliseconds patience = kWatchedPatience;
    if (any([](const Child& c) { return c.whereabouts->watched.load(std::memory_order_relaxed) == 0; }))
      patience = cause_.decided() ? milliseconds(0) : kCausePatience;
    if (!any([](const Child& c) { return ProcessState(c.pid) != 'T'; })) patience = milliseconds(0);
    ends_at_ = std::min(ends_at_.value_or(now + patience), now + patience);
  }

  void End(int signal) {
    for (Child& child : children_) {
      if (!child.running) continue;
      child.asked = true;
      kill(child.pid, ProcessState(child.pid) == 'T' ? SIGKILL : signal);  // a stopped one would not see another
    }
  }

  std::string Where(size_t local) const {
    const Place place = children_[local].whereabouts->Read();
    const bool known = options_.describe && place.instruction >= 0;
    return fmt::format("rank {}: {}", GlobalRank(local),
                       Describe(place, known ? options_.describe(place.instruction) : ""));
  }

  // The first cause, once all ranks have ended and said theirs.
  void Say() const {
    if (!cause_.failed() || cause_.code() == Code::kInterrupted) return;
    Error error{cause_.code(), "", "", ""};
    if (cause_.signal() != 0) {
      error.what = fmt::format("rank {} was ended by signal {} ({})", cause_.rank(), cause_.signal(),
                               strsignal(cause_.signal()));
      error.where = Where(static_cast<size_t>(cause_.rank() - GlobalRank(0)));
      error.hint = SignalHint();
    } else if (cause_.decided()) {
      if (cause_.echoes() == 0) return;  // its own error is the only one
      error.what =
          fmt::format("rank {} failed first, with exit code {}", cause_.rank(), static_cast<int>(cause_.code()));
      error.hint = "its own error, above, says why; those of the others follow from it";
    } else if (silent_) {
      error.what = fmt::format("rank {} was silent for {:.1f} s{}", GlobalRank(*silent_),
                               std::chrono::duration<double>(silent_for_).count(), StateWords(silent_state_));
      error.where = Where(*silent_);
      error.hint = "--heartbeat-timeout sets how long a rank may be silent; a long step is no silence";
    } else {
      const int elsewhere = BlamedElsewhere();
      error.what = elsewhere < 0 ? "the ranks lost each other"
                                 : fmt::format("rank {} failed first, on another machine", elsewhere);
      error.hint = "the errors above say what is known of it";
    }
    LogError(error);
  }

  bool MayPass() const {
    const auto passes = [](int code) {
      return code == static_cast<int>(Code::kFailed) || code == static_cast<int>(Code::kTimeout) ||
             code == static_cast<int>(Code::kPeerFailed);
    };
    return passes(static_cast<int>(cause_.code())) &&
           std::all_of(children_.begin(), children_.end(), [&](const Child& c) {
             return c.whereabouts->blamed.load() < 0 || passes(c.whereabouts->blamed_code.load());
           });
  }

  // The rank of another machine that the ranks here blame, or -1.
  int BlamedElsewhere() const {
    for (const Child& child : children_) {
      const int blamed = child.whereabouts->blamed.load();
      if (blamed >= 0 && (blamed < GlobalRank(0) || blamed >= GlobalRank(0) + options_.ranks)) return blamed;
    }
    return -1;
  }

  std::string SignalHint() const {
    if (cause_.signal() != SIGKILL) return "see its last lines above";
    const int64_t kills = OutOfMemoryKills();
    if (oom_kills_ >= 0 && kills > oom_kills_) {
      return fmt::format(
          "the kernel killed {} for want of memory meanwhile: give the job more memory, or compile with a "
          "lower --memory-budget or more --ranks",
          kills - oom_kills_ == 1 ? "a process" : fmt::format("{} processes", kills - oom_kills_));
    }
    return "somebody killed it, or the kernel for want of memory (dmesg tells)";
  }

  static std::string StateWords(char state) {
    if (state == 'T') return ": it is stopped (SIGSTOP or a terminal)";
    if (state == 't') return ": a debugger has stopped it";
    if (state == 'D') return ": it waits for a device or a file system";
    return "";
  }

  const LaunchOptions& options_;
  const int64_t oom_kills_;
  sigset_t old_mask_{};
  std::vector<Child> children_;  // by local rank
  std::vector<LineStream> streams_;
  FirstCause cause_;
  std::optional<Clock::time_point> ends_at_;  // when what still runs is ended
  std::optional<size_t> silent_;              // local rank
  char silent_state_ = 0;
  Clock::duration silent_for_{};
  bool asked_to_end_ = false;
  bool interrupted_ = false;
};

}  // namespace

Result<LaunchOutcome> Launch(const LaunchOptions& options) { return Job(options).Run(); }

}  // namespace autospc::train
