// A rank's part of a tensor in terms of the whole: what gives an element the same number of the counter-based generator
// on however many ranks.
#pragma once

#include <cstdint>
#include <vector>

#include "runtime/exec/call.h"

namespace autospc::exec {

// A stretch of a tensor's dims in row-major order: `local` rows here, `global` of them in all, from `start` on; rows past
// the end are its last one.
struct Extent {
  int64_t local = 1, global = 1, start = 0;
};

// Of autosp.dropout's operand, outermost first; the last one is not split, so that its elements have consecutive global
// indices: a run. kBadInput: its arguments do not fit its operand and result.
Result<std::vector<Extent>> DropoutExtents(const Call& call);

// The global row-major index of the first element of run `run`.
uint64_t GlobalStart(const std::vector<Extent>& extents, int64_t run);

}  // namespace autospc::exec
