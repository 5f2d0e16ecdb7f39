#include "runtime/train/restart.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "runtime/base/log.h"

namespace autospc::train {
namespace {

constexpr auto kPause = std::chrono::seconds(1);  // before a new start: ports and memory are given back

}  // namespace

std::vector<std::string> WithResume(std::vector<std::string> arguments, const std::string& folder) {
  std::vector<std::string> with;
  const auto end = std::find(arguments.begin(), arguments.end(), "--");  // what follows is no flag
  for (auto at = arguments.begin(); at != end; ++at) {
    if (*at == "--resume")
      ++at;
    else if (!at->starts_with("--resume="))
      with.push_back(*at);
    if (at == end) break;
  }
  with.push_back("--resume");
  with.push_back(folder);
  with.insert(with.end(), end, arguments.end());
  return with;
}

Result<int> LaunchAndRestart(LaunchOptions launch, int restarts, const Checkpoints& checkpoints) {
  const std::vector<std::string> given = launch.arguments;
  while (true) {
    ASSIGN_OR_RETURN(const LaunchOutcome outcome, Launch(launch));
    if (!outcome.may_pass || launch.attempt >= restarts) return outcome.code;
    ++launch.attempt;
    std::optional<int64_t> step;
    if (!checkpoints.folder.empty() && checkpoints.newest_step) step = checkpoints.newest_step(checkpoints.folder);
    launch.arguments = step ? WithResume(given, checkpoints.folder) : given;
    Log(LogLevel::kWarning,
        fmt::format("the job ended with exit code {}: start {} of {} again, {}", outcome.code, launch.attempt, restarts,
                    step ? fmt::format("from the checkpoint of step {} in {}", *step, checkpoints.folder)
                         : "from where it was started: there is no complete checkpoint"));
    std::this_thread::sleep_for(kPause);
  }
}

}  // namespace autospc::train
