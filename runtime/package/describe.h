// Words for people about a program's parts.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/package/program_generated.h"

namespace autospc {

// "instruction 41 of 303 (autosp.all_to_all), from model.py:12"; for an index that the program lacks its number alone.
std::string DescribeInstruction(const program::ProgramT& program, int64_t index);

}  // namespace autospc
