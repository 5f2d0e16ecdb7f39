// The legality check between compiler and package, on the program alone.
#pragma once

#include <string>
#include <vector>

#include "runtime/package/program_generated.h"

namespace autospc::codegen {

// Every violation, one line each: an index out of range; a tensor that reaches outside its storage; a storage
// outside the arena or off a multiple of 64; an instruction that touches an arena storage outside its stated
// lifetime; two arena storages alive at one instruction that overlap; an output that is captured after its
// storage is gone; a result written over persistent memory. Empty: the program is lawful.
std::vector<std::string> CheckProgram(const program::ProgramT& program);

}  // namespace autospc::codegen
