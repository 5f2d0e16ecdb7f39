// --restart N: a job that failed begins again from its last checkpoint.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/train/launcher.h"

namespace autospc::train {

struct Checkpoints {
  std::string folder;  // --checkpoint; empty: there are none
  // The step of the newest complete checkpoint in a folder; nullopt where there is none.
  std::function<std::optional<int64_t>(const std::string& folder)> newest_step;
};

// Launches, and again at most `restarts` times while the job fails for a reason that may pass: a rank lost (7), silent
// (6) or failed in its run (1). Not after bad flags or files, nor after a signal to the launcher. Each new start is
// said on stderr, and given --resume FOLDER in place of the --resume that was given, if a complete checkpoint is there.
Result<int> LaunchAndRestart(LaunchOptions launch, int restarts, const Checkpoints& checkpoints);

// `arguments` with --resume FOLDER, in place of theirs if they have one.
std::vector<std::string> WithResume(std::vector<std::string> arguments, const std::string& folder);

}  // namespace autospc::train
