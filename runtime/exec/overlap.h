// Which collectives may still run while an instruction does.
#pragma once

#include <vector>

#include "runtime/package/program_generated.h"

namespace autospc::exec {

// Bytes from the storage's start to the end of the tensor's last element; -1 for a negative size, stride or offset.
int64_t ExtentOf(const program::TensorT& t);

struct Overlap {
  std::vector<bool> beside;    // by instruction: it moves bytes between ranks and runs beside the others
  std::vector<int> waits_for;  // by instruction: the last of those that must be done before; -1: none
};

// `storages`: by index, where each lies. An instruction must wait for a collective before it where one of them writes
// bytes that the other touches: operands, results and workspaces, whatever storages they belong to, since the arena
// gives bytes of the dead to others. Collectives keep their order among themselves.
Overlap FindOverlap(const program::ProgramT& program, const std::vector<void*>& storages);

}  // namespace autospc::exec
