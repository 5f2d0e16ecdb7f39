// A running job that a test may hurt: its output as it grows, and the processes that belong to it.
#pragma once

#include <cctype>
#include <map>
#include <regex>
#include <utility>

#include "tests/e2e/programs.h"

namespace autospc::e2e {

using Variables = std::map<std::string, std::string>;

// Runs args[0] (a program of ours, or a path) in a process group of its own, and ends what is left of it at the end.
class RunningJob {
 public:
  explicit RunningJob(Args args, const Variables& variables = {}) {
    if (args[0].find('/') == std::string::npos) args[0] = std::string(AUTOSPC_BIN_DIR "/") + args[0];
    std::vector<char*> argv;
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    const std::string out = (folder_ / "out").string(), err = (folder_ / "err").string();
    pid_ = fork();
    if (pid_ == 0) {
      setpgid(0, 0);
      setenv("OMP_NUM_THREADS", "1", 1);
      setenv("MKL_NUM_THREADS", "1", 1);
      for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
      dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
      dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
      execv(argv[0], argv.data());
      _exit(127);
    }
    setpgid(pid_, pid_);
  }
  ~RunningJob() {
    kill(-pid_, SIGKILL);
    if (!ended_) waitpid(pid_, nullptr, 0);
  }
  RunningJob(const RunningJob&) = delete;

  pid_t pid() const { return pid_; }
  std::string Out() const { return ReadFile(folder_ / "out"); }
  std::string Err() const { return ReadFile(folder_ / "err"); }

  // Whether its output, from `from` on, tells of that step.
  bool Took(int step, size_t from = 0) const {
    const std::string out = Out().substr(from);
    return std::regex_search(out, std::regex("step +" + std::to_string(step) + " "));
  }
  // Until it does; false if it ends or two minutes pass before.
  bool WaitForStep(int step) {
    for (int i = 0; i < 24000; ++i) {
      if (Took(step)) return true;
      if (waitpid(pid_, &status_, WNOHANG) == pid_) {
        ended_ = true;
        return false;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }

  // Its children, by process id: the ranks in the order in which they were started.
  std::vector<pid_t> Children() const {
    std::ifstream in("/proc/" + std::to_string(pid_) + "/task/" + std::to_string(pid_) + "/children");
    std::vector<pid_t> children;
    for (pid_t child; in >> child;) children.push_back(child);
    return children;
  }

  // Waits for its end: what it said, and how long that took. -1: it did not end.
  Outcome Wait(double limit_seconds = 60) {
    const auto start = std::chrono::steady_clock::now();
    const auto elapsed = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    while (!ended_ && elapsed() < limit_seconds) {
      ended_ = waitpid(pid_, &status_, WNOHANG) == pid_;
      if (!ended_) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    Outcome outcome;
    outcome.seconds = elapsed();
    if (ended_) outcome.code = WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_);
    outcome.out = Out();
    outcome.err = Err();
    return outcome;
  }

  // Of its process group, those that still run: none may outlive it.
  std::vector<pid_t> Left() const {
    std::vector<pid_t> left;
    for (const auto& entry : fs::directory_iterator("/proc")) {
      const std::string name = entry.path().filename().string();
      if (!std::isdigit(static_cast<unsigned char>(name[0]))) continue;
      const std::string stat = ReadFile(entry.path() / "stat");
      const size_t end = stat.rfind(')');
      if (end == std::string::npos) continue;
      char state = 0;
      int parent = 0, group = 0;
      if (std::sscanf(stat.c_str() + end + 1, " %c %d %d", &state, &parent, &group) == 3 && group == pid_ &&
          state != 'Z')
        left.push_back(std::stoi(name));
    }
    return left;
  }

 private:
  TempFolder folder_;
  pid_t pid_ = -1;
  int status_ = 0;
  bool ended_ = false;
};

// A small model's package for `ranks`, with an optimiser: compiled once, removed when the tests end.
inline fs::path TrainingPackage(int ranks) {
  static TempFolder folder;
  const fs::path package = folder / ("package" + std::to_string(ranks));
  if (fs::exists(package)) return package;
  const Args compile = CompileArgs(Pt2("gpt"), package, ranks, 61, {"--optimizer", "adamw"});
  const Outcome compiled = Execute(compile);
  EXPECT_EQ(compiled.code, 0) << Said(compile, compiled);
  return package;
}

// The arguments that train it on its golden's batch.
inline Args TrainArgs(int ranks, const Args& more = {}) {
  Args args = {"autosp-run", TrainingPackage(ranks).string(), "--golden", Golden("gpt", "s61").string(), "--lr",
               "0.001"};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

}  // namespace autospc::e2e
