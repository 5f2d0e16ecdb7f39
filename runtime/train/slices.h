// Which part of a batch a rank's program reads.
#pragma once

#include <vector>

#include "runtime/data/batch_source.h"
#include "runtime/package/program_generated.h"

namespace autospc::train {

// Of each input, in the program's order: the rows and positions that rank `rank` reads. An input is read in part where
// the program does nothing with it but take its shards; labels are mostly read whole, as every rank counts the valid
// ones.
std::vector<data::Slice> SlicesOf(const program::ProgramT& program, int rank);

}  // namespace autospc::train
