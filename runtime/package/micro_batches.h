// Which part of a program runs once for each micro-batch of a step (autospc compile --accumulate): the instructions
// between autosp.each_micro_batch_ and autosp.micro_batches_end_. Those before them clear the sums, those behind them
// are the rest of the step.
#pragma once

#include <cstdint>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc {

struct MicroBatches {
  int64_t count = 1;
  int64_t begin = 0, end = 0;  // instructions [begin, end) run `count` times; one micro-batch: all of them

  // How many times an instruction runs in a step.
  int64_t Times(int64_t instruction) const { return instruction >= begin && instruction < end ? count : 1; }
};

// Of a program that ValidateProgram has accepted.
MicroBatches MicroBatchesOf(const program::ProgramT& program);

// kBadInput: the two stand in another order, or more than once, or have no count between 1 and kMaxMicroBatches; or the
// part between them leaves something in the arena to the next micro-batch, or to the rest, that nothing keeps for it.
inline constexpr int64_t kMaxMicroBatches = 1 << 16;
Status CheckMicroBatches(const program::ProgramT& program);

}  // namespace autospc
