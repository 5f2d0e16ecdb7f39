// The folder that a run keeps its checkpoints in: DIR/step-00000200, one folder a checkpoint. One that is being
// written has a hidden name, so that whatever has the name of a step is complete, or was damaged afterwards.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace autospc::checkpoint {

std::string FolderName(int64_t step);  // "step-00000200"
std::optional<int64_t> StepOfFolder(const std::string& name);
// Where the checkpoint of a step is written before it gets its name: DIR/.step-00000200.tmp, the same on every rank.
std::string TemporaryFolder(const std::string& dir, int64_t step);

struct Listed {
  int64_t step = 0;
  std::string path;
};

// The checkpoints in `dir` by their names, the latest step first; none where the folder does not exist. kBadInput: it
// can't be read.
Result<std::vector<Listed>> ListCheckpoints(const std::string& dir);

// What `path` (of --resume) names: checkpoints to try in this order; one that is a checkpoint itself (it holds a
// manifest, or has the name of one) is the only one. kBadInput: there is no such folder, or nothing of the kind in it.
struct Candidates {
  std::vector<Listed> checkpoints;
  bool chosen = false;  // the path names a particular one
};
Result<Candidates> FindCandidates(const std::string& path);

// Removes what runs that were killed have left: folders with TemporaryFolder's names.
void RemoveUnfinished(const std::string& dir);
// Removes all complete checkpoints but the `keep` latest; those of steps behind `step` are left alone.
Status RemoveOld(const std::string& dir, int64_t step, int64_t keep);

}  // namespace autospc::checkpoint
