// What is said when a step does not fit the memory that a rank is given.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc {

// kDoesNotFit: by how many bytes `smallest`, the program of the lowest peak that was found, exceeds `budget` (bytes a
// rank, persistent storages and the arena), what is always there, and the ten largest buffers alive at the arena's peak
// with their source lines. `where` is the model. The hint names the flags; compiler/planner.h computes what would fit.
Error DoesNotFit(const program::ProgramT& smallest, int64_t budget, const std::string& where);

}  // namespace autospc
