#include "runtime/train/first_cause.h"

#include <sys/wait.h>

#include <csignal>
#include <fstream>
#include <iterator>
#include <string>

namespace autospc::train {

void FirstCause::Ended(int rank, int status, bool ours) {
  if (WIFEXITED(status)) {
    const Code code = static_cast<Code>(WEXITSTATUS(status));
    if (code == Code::kOk) return;
    if (code == Code::kTimeout || code == Code::kPeerFailed) {
      (code == Code::kTimeout ? silent_ : lost_) = true;
      ++echoes_;
    } else if (!cause_) {
      cause_ = Cause{rank, 0, code};
    }
    return;
  }
  if (ours || cause_) return;
  // A terminal sends its interrupt to the ranks as it does to the launcher.
  const int signal = WTERMSIG(status);
  cause_ = Cause{rank, signal, signal == SIGINT ? Code::kInterrupted : Code::kPeerFailed};
}

void FirstCause::Silent(int) { silent_ = true; }

Code FirstCause::code() const {
  if (cause_) return cause_->code;
  if (silent_) return Code::kTimeout;
  return lost_ ? Code::kPeerFailed : Code::kOk;
}

int64_t OutOfMemoryKills(const char* vmstat) {
  std::ifstream in(vmstat);
  std::string name;
  for (int64_t value = 0; in >> name >> value;) {
    if (name == "oom_kill") return value;
  }
  return -1;
}

char ProcessState(int pid) {
  std::ifstream in(fmt::format("/proc/{}/stat", pid));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  const size_t name_end = text.rfind(')');  // the name may hold anything
  return name_end == std::string::npos || name_end + 2 >= text.size() ? '\0' : text[name_end + 2];
}

}  // namespace autospc::train
