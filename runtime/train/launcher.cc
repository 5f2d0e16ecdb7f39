#include "runtime/train/launcher.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace autospc::train {
namespace {

constexpr int kGraceMilliseconds = 2000;  // between asking ranks to end and ending them

Error SystemError(const char* what) {
  return Error{Code::kFailed, fmt::format("{}: {}", what, std::strerror(errno)), "", ""};
}

// Lines of one stream of one rank.
struct Stream {
  int fd = -1;
  int target = 2;
  std::string prefix;
  std::string pending;

  void Write(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t n = write(target, text.data(), text.size());
      if (n < 0 && errno != EINTR) return;  // nobody reads us: the ranks' work goes on
      if (n > 0) text.remove_prefix(static_cast<size_t>(n));
    }
  }
  // Reads what there is; false at the end of the stream.
  bool Pump() {
    std::array<char, 65536> buffer;
    const ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n < 0) return errno == EINTR || errno == EAGAIN;
    if (n == 0) {
      if (!pending.empty()) Write(prefix + pending + "\n");
      pending.clear();
      return false;
    }
    pending.append(buffer.data(), static_cast<size_t>(n));
    std::string whole;
    size_t start = 0;
    for (size_t end; (end = pending.find('\n', start)) != std::string::npos; start = end + 1) {
      whole += prefix;
      whole.append(pending, start, end + 1 - start);
    }
    pending.erase(0, start);
    Write(whole);
    return true;
  }
};

struct Child {
  pid_t pid = -1;
  bool running = false;
};

// A socket that listens on a free port of the loopback interface. Rank 0 inherits it, so that nobody can take
// the port between choosing it and using it.
Result<std::pair<int, int>> ListenOnFreePort() {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof(address);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(fd, 1024) != 0 ||
      getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return SystemError("no port for the rendezvous");
  }
  return std::pair<int, int>(fd, ntohs(address.sin_port));
}

class Job {
 public:
  explicit Job(const LaunchOptions& options) : options_(options) {}

  Result<int> Run() {
    ASSIGN_OR_RETURN(const auto listening, ListenOnFreePort());
    sigset_t signals;
    sigemptyset(&signals);
    for (int s : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, s);
    if (options_.pass_signals_on) sigaddset(&signals, SIGUSR1);
    sigprocmask(SIG_BLOCK, &signals, &old_mask_);
    const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signal_fd < 0) return SystemError("signalfd");
    for (int r = 0; r < options_.ranks; ++r) {
      Status started = Start(r, listening.first, listening.second);
      if (!started.ok()) {
        End(SIGKILL);
        while (Reap()) usleep(1000);
        return std::move(started).error();
      }
    }
    close(listening.first);
    Watch(signal_fd);
    close(signal_fd);
    sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
    return code_;
  }

 private:
  Status Start(int rank, int listen_fd, int port) {
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return SystemError("pipe");
    // All that allocates is made before the fork.
    std::vector<std::string> environment;
    for (char** e = environ; *e != nullptr; ++e) environment.emplace_back(*e);
    auto set = [&](const std::string& name, const std::string& value) {
      std::erase_if(environment, [&](const std::string& e) { return e.starts_with(name + "="); });
      environment.push_back(name + "=" + value);
    };
    const std::string size = std::to_string(options_.ranks);
    set("RANK", std::to_string(rank));
    set("LOCAL_RANK", std::to_string(rank));
    set("WORLD_SIZE", size);
    set("LOCAL_WORLD_SIZE", size);
    set("MASTER_ADDR", "127.0.0.1");
    set("MASTER_PORT", std::to_string(port));
    if (rank == 0) set("AUTOSP_LISTEN_FD", std::to_string(listen_fd));
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
      if (getppid() != parent) _exit(static_cast<int>(Code::kPeerFailed));
      dup2(out[1], STDOUT_FILENO);
      dup2(err[1], STDERR_FILENO);
      if (rank == 0) fcntl(listen_fd, F_SETFD, 0);
      sigprocmask(SIG_SETMASK, &old_mask_, nullptr);
      execve(argv[0], argv.data(), envp.data());
      _exit(127);
    }
    close(out[1]);
    close(err[1]);
    const std::string prefix = options_.ranks > 1 ? fmt::format("[rank {}] ", rank) : "";
    streams_.push_back({out[0], STDOUT_FILENO, rank == 0 ? "" : prefix, ""});
    streams_.push_back({err[0], STDERR_FILENO, prefix, ""});
    children_.push_back({pid, true});
    return Ok();
  }

  void Watch(int signal_fd) {
    bool killed = false;
    int waited = 0;  // milliseconds since the ranks were asked to end
    while (true) {
      std::vector<pollfd> fds = {{signal_fd, POLLIN, 0}};
      for (const Stream& s : streams_) fds.push_back({s.fd, POLLIN, 0});
      const bool ending = ending_;
      if (poll(fds.data(), fds.size(), ending ? 50 : 1000) < 0 && errno != EINTR) break;
      if (ending) waited += 50;
      for (size_t i = fds.size(); i-- > 1;) {
        if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !streams_[i - 1].Pump()) {
          close(streams_[i - 1].fd);
          streams_.erase(streams_.begin() + static_cast<int64_t>(i) - 1);
        }
      }
      signalfd_siginfo info{};
      while (read(signal_fd, &info, sizeof(info)) == sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) continue;
        const int signal = static_cast<int>(info.ssi_signo);
        const bool passes = options_.pass_signals_on && (signal == SIGTERM || signal == SIGUSR1) && !asked_to_end_;
        asked_to_end_ = true;
        if (passes) {
          for (const Child& child : children_) {
            if (child.running) kill(child.pid, signal);
          }
          continue;
        }
        code_ = static_cast<int>(Code::kInterrupted);
        decided_ = true;
        if (!ending_) End(SIGTERM);
      }
      if (!Reap()) {
        for (Stream& s : streams_) {
          fcntl(s.fd, F_SETFL, O_NONBLOCK);
          s.Pump();
          close(s.fd);
        }
        return;
      }
      if (ending_ && !killed && waited >= kGraceMilliseconds) {
        killed = true;
        End(SIGKILL);
      }
    }
  }

  // Takes the ranks that have ended; false when none is left.
  bool Reap() {
    bool left = false;
    for (size_t r = 0; r < children_.size(); ++r) {
      Child& child = children_[r];
      if (!child.running) continue;
      int status = 0;
      if (waitpid(child.pid, &status, WNOHANG) != child.pid) {
        left = true;
        continue;
      }
      child.running = false;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
      Failed(static_cast<int>(r), status);
    }
    return left;
  }

  void Failed(int rank, int status) {
    const int peer = static_cast<int>(Code::kPeerFailed);
    if (WIFEXITED(status)) {
      // A rank that only lost a peer gives way to the one that says why.
      if (!decided_ && (code_ == 0 || code_ == peer)) code_ = WEXITSTATUS(status);
      if (code_ != peer) decided_ = true;
    } else if (!decided_ && !ended_by_us_) {
      code_ = peer;
      decided_ = true;
      const int signal = WTERMSIG(status);
      const Error error{
          Code::kPeerFailed, fmt::format("rank {} was ended by signal {} ({})", rank, signal, strsignal(signal)), "",
          signal == SIGKILL ? "was the machine out of memory? (dmesg tells)" : "see its last lines above"};
      const std::string text = error.Format() + "\n";
      (void)!write(STDERR_FILENO, text.data(), text.size());
    }
    // A peer's loss is told to the launcher a moment before its cause may be: leave it the grace.
    if (!ending_) {
      ending_ = true;
      if (code_ != peer || decided_) End(SIGTERM);
    }
  }

  void End(int signal) {
    ending_ = true;
    ended_by_us_ = true;
    for (const Child& child : children_) {
      if (child.running) kill(child.pid, signal);
    }
  }

  const LaunchOptions& options_;
  sigset_t old_mask_{};
  std::vector<Child> children_;
  std::vector<Stream> streams_;
  int code_ = 0;
  bool decided_ = false;  // code_ is the cause's
  bool ending_ = false;
  bool ended_by_us_ = false;
  bool asked_to_end_ = false;  // by a signal
};

}  // namespace

Result<int> Launch(const LaunchOptions& options) { return Job(options).Run(); }

}  // namespace autospc::train
