// --restart, with shell scripts as ranks.
#include "runtime/train/restart.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace autospc::train {
namespace {

using Arguments = std::vector<std::string>;

TEST(WithResumeTest, ReplacesWhatWasGiven) {
  EXPECT_EQ(WithResume({"pkg", "--steps", "5"}, "dir"), (Arguments{"pkg", "--steps", "5", "--resume", "dir"}));
  EXPECT_EQ(WithResume({"--resume", "old", "pkg"}, "dir"), (Arguments{"pkg", "--resume", "dir"}));
  EXPECT_EQ(WithResume({"--resume=old", "pkg"}, "dir"), (Arguments{"pkg", "--resume", "dir"}));
  EXPECT_EQ(WithResume({"pkg", "--resume", "old"}, "dir"), (Arguments{"pkg", "--resume", "dir"}));
  EXPECT_EQ(WithResume({"--steps", "5", "--", "pkg"}, "dir"),
            (Arguments{"--steps", "5", "--resume", "dir", "--", "pkg"}));
}

struct Ran {
  int code = -1;
  std::string starts, err;  // a line a start: the attempt and what follows --resume
};

// One rank that ends with the next of `codes` at each start.
Ran RunRestarts(const std::string& codes, int restarts, const Checkpoints& checkpoints) {
  char folder[] = "/tmp/autosp-restart-XXXXXX";
  if (mkdtemp(folder) == nullptr) return {};
  const std::string starts = std::string(folder) + "/starts", err = std::string(folder) + "/err";
  const pid_t child = fork();
  if (child == 0) {
    dup2(open(err.c_str(), O_WRONLY | O_CREAT, 0600), 2);
    LaunchOptions launch;
    launch.program = "/bin/sh";
    launch.arguments = {
        "-c", "echo $AUTOSP_ATTEMPT $* >> " + starts + "; set -- " + codes + "; shift $AUTOSP_ATTEMPT; exit $1",
        "rank"};
    const auto code = LaunchAndRestart(launch, restarts, checkpoints);
    _exit(code.ok() ? code.value() : 99);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const auto read = [](const std::string& path) {
    std::ifstream in(path);
    return std::string{std::istreambuf_iterator<char>(in), {}};
  };
  Ran ran{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), read(starts), read(err)};
  std::filesystem::remove_all(folder);
  return ran;
}

TEST(RestartTest, BeginsAgainUntilItSucceeds) {
  std::optional<int64_t> newest;
  const Ran ran = RunRestarts("7 6 0", 5, {"ckpt", [&](const std::string&) {
                                             const auto now = newest;
                                             newest = 40;  // written by the second start
                                             return now;
                                           }});
  EXPECT_EQ(ran.code, 0) << ran.err;
  EXPECT_EQ(ran.starts, "0\n1\n2 --resume ckpt\n");
  EXPECT_NE(ran.err.find("start 1 of 5 again, from where it was started: there is no complete checkpoint"),
            std::string::npos)
      << ran.err;
  EXPECT_NE(ran.err.find("start 2 of 5 again, from the checkpoint of step 40 in ckpt"), std::string::npos) << ran.err;
}

TEST(RestartTest, AtMostAsOftenAsAsked) {
  const Ran ran = RunRestarts("7 1 6 0", 2, {});
  EXPECT_EQ(ran.code, 6);
  EXPECT_EQ(ran.starts, "0\n1\n2\n");
}

TEST(RestartTest, NotWhereItCannotGoBetter) {
  for (const std::string code : {"2", "3", "4", "5", "130"}) {
    const Ran ran = RunRestarts(code + " 0", 3, {});
    EXPECT_EQ(ran.code, std::stoi(code));
    EXPECT_EQ(ran.starts, "0\n");
  }
}

}  // namespace
}  // namespace autospc::train
