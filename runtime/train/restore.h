// A run goes on from a checkpoint: at any number of ranks, with any way of sharding the optimiser's states.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "runtime/base/result.h"
#include "runtime/checkpoint/read.h"
#include "runtime/dist/communicator.h"
#include "runtime/exec/executor.h"

namespace autospc::train {

// "auto" for the latest checkpoint in the folder of --checkpoint, if there is one, else the beginning.
inline constexpr char kResumeAuto[] = "auto";

// Whether the program's model and optimiser are the checkpoint's. Names of ties count as one. A master may come from a
// wider parameter, a parameter from its master. kBadInput lists everything that is missing, misshapen or (parameters
// and buffers) nobody wants, at once. States that nobody wants are left.
Status CheckRestore(const checkpoint::Reader& reader, const program::ProgramT& program);

// What can be said before ranks start: `resume` (a folder, or "auto" with `dir` that of --checkpoint) names a
// checkpoint, and the latest that is whole to the eye is this model's. Contents are not verified yet. Its step; none for
// "auto" without a checkpoint, and where `resume` is empty.
Result<std::optional<int64_t>> CheckResume(const std::string& resume, const std::string& dir, const program::ProgramT& program);

// The checkpoint to go on from; every rank gets the same one, verified, each having read its share of the files. One
// that is incomplete or damaged is warned of and the next older one taken; where `resume` names a particular one that
// is an error. None for "auto" where `dir` holds none, or where `resume` is empty.
Result<std::shared_ptr<const checkpoint::Reader>> ChooseCheckpoint(const std::string& resume, const std::string& dir,
                                                                   const program::ProgramT& program,
                                                                   Communicator* communicator);

// Brings parameters, buffers and the rank's part of the optimiser's states to their places, and the count of steps.
Status Restore(const checkpoint::Reader& reader, exec::Executor* executor);

}  // namespace autospc::train
