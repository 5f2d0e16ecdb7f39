// Whether a program may run: checked before it does, since a package comes from anywhere.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc {

// The FlatBuffer in `bytes` as objects, if its verifier accepts it and unpacking takes no more memory than a
// constant times its size. kBadInput otherwise; `where` names the blob.
Result<std::unique_ptr<program::ProgramT>> UnpackProgram(std::string_view bytes, const std::string& where);

// That every index is in range, every enum has a known value, every tensor lies within its storage, every arena
// storage within the arena (at a multiple of 64 bytes). kBadInput with the first violation.
Status ValidateProgram(const program::ProgramT& program, const std::string& where);

// For each storage the first tensor that covers it whole and contiguously (nullptr: none does): its dtype and
// sizes are those under which a persistent storage's bytes are stored.
std::vector<const program::TensorT*> WholeTensors(const program::ProgramT& program);

}  // namespace autospc
