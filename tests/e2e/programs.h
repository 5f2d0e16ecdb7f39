// Runs the project's programs as a user does, and knows the models that the end-to-end tests go over.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

namespace autospc::e2e {

namespace fs = std::filesystem;
using Args = std::vector<std::string>;

struct Outcome {
  int code = -1;  // exit status; 128 + signal where one ended it; -1 where it ran past the limit
  std::string out, err;
  double seconds = 0;

  std::string All() const { return out + err; }
};

inline std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void WriteFile(const fs::path& path, std::string_view data) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(data.data(), static_cast<std::streamsize>(data.size()));
}

// A folder of the test's own, removed with everything in it.
class TempFolder {
 public:
  TempFolder() {
    std::string name = (fs::temp_directory_path() / "autospc-e2e-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ~TempFolder() { fs::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;

  fs::path operator/(const std::string& name) const { return path_ / name; }
  const fs::path& path() const { return path_; }
  // The names in it, sorted: what a failed program left behind.
  std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(path_)) names.push_back(entry.path().filename().string());
    std::sort(names.begin(), names.end());
    return names;
  }

 private:
  fs::path path_;
};

inline std::string Line(const Args& args) {
  std::string line;
  for (const std::string& arg : args) line += (line.empty() ? "" : " ") + arg;
  return line;
}

// Runs args[0] (a program of ours, or a path) in its own process group, which ends when the limit passes.
inline Outcome Execute(Args args, double limit_seconds = 240) {
  if (args[0].find('/') == std::string::npos) args[0] = std::string(AUTOSPC_BIN_DIR "/") + args[0];
  TempFolder folder;
  const std::string out = (folder / "out").string(), err = (folder / "err").string();
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  const auto start = std::chrono::steady_clock::now();
  const pid_t child = fork();
  if (child == 0) {
    setpgid(0, 0);
    setenv("OMP_NUM_THREADS", "1", 1);
    setenv("MKL_NUM_THREADS", "1", 1);
    dup2(open(out.c_str(), O_WRONLY | O_CREAT, 0600), 1);
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    execv(argv[0], argv.data());
    _exit(127);
  }
  Outcome outcome;
  auto elapsed = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  int status = 0;
  while (waitpid(child, &status, WNOHANG) == 0) {
    if (elapsed() > limit_seconds) {
      kill(-child, SIGKILL);
      waitpid(child, &status, 0);
      status = -1;
      break;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  outcome.seconds = elapsed();
  if (status != -1) outcome.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  outcome.out = ReadFile(out);
  outcome.err = ReadFile(err);
  return outcome;
}

// For EXPECT_EQ's message: the command and all that it said.
inline std::string Said(const Args& args, const Outcome& outcome) {
  return Line(args) + "\nexit " + std::to_string(outcome.code) + "\n" + outcome.All();
}

inline fs::path Models() { return fs::path(AUTOSPC_SOURCE_DIR) / "models"; }
// Eight more models, which a checkout need not have; tests over them skip where the folder is absent.
inline fs::path Zoo() { return fs::path(AUTOSPC_SOURCE_DIR).parent_path() / "shared" / "zoo"; }

inline fs::path Pt2(const std::string& model, const fs::path& root = Models()) {
  return root / model / (model + ".pt2");
}
inline fs::path Golden(const std::string& model, const std::string& which, const fs::path& root = Models()) {
  return root / model / (model + ".golden_" + which + ".safetensors");
}

// autospc compile MODEL -o OUT --ranks P --seq-len S and more.
inline Args CompileArgs(const fs::path& model, const fs::path& out, int ranks, int length, const Args& more = {}) {
  Args args = {"autospc",
               "compile",
               model.string(),
               "-o",
               out.string(),
               "--ranks",
               std::to_string(ranks),
               "--seq-len",
               std::to_string(length)};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

// autosp-run --nproc-per-node P PACKAGE --golden FILE and more.
inline Args GoldenArgs(const fs::path& package, int ranks, const fs::path& golden, const Args& more = {}) {
  Args args = {"autosp-run", "--nproc-per-node", std::to_string(ranks), package.string(), "--golden", golden.string()};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

// Compiles and compares with the golden; reports the whole output where either fails.
inline void ExpectMatchesGolden(const fs::path& model, const fs::path& golden, int ranks, int length,
                                const Args& compile_more = {}, const Args& run_more = {}) {
  TempFolder folder;
  const Args compile = CompileArgs(model, folder / "package", ranks, length, compile_more);
  const Outcome compiled = Execute(compile);
  ASSERT_EQ(compiled.code, 0) << Said(compile, compiled);
  const Args run = GoldenArgs(folder / "package", ranks, golden, run_more);
  const Outcome ran = Execute(run);
  ASSERT_EQ(ran.code, 0) << Said(compile, compiled) << Said(run, ran);
}

}  // namespace autospc::e2e
