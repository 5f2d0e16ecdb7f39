// Float32 masters of 16-bit parameters: optimiser states named "NAME.master", from which the parameter is rounded.
#pragma once

#include <map>
#include <string>

#include "runtime/package/program_generated.h"

namespace autospc {

// By the parameter's name: the master's storage. A package holds the data of such a parameter in float32 where that is
// what it was compiled from, so that the master begins with all of its bits.
std::map<std::string, int> MasterStorages(const program::ProgramT& program);

}  // namespace autospc
