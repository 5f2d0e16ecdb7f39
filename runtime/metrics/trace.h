// A few steps of all ranks on one time line, in Chrome's JSON trace format (ui.perfetto.dev, chrome://tracing): one
// row a rank, a slice for each instruction, named by its op and its line of the model's Python; inside a collective's,
// what is waiting for the last rank to come and what is its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/package/program_generated.h"

namespace autospc::metrics {

struct Span {
  int64_t step = 0;
  int64_t instruction = 0;       // of the program; kData: filling the inputs
  int64_t start = 0, end = 0;    // nanoseconds of the rank's clock
  static constexpr int64_t kData = -1;
};

struct RankTrace {
  int64_t clock_offset = 0;  // nanoseconds: this rank's clock minus rank 0's
  int64_t clock_error = 0;
  std::vector<Span> spans;  // in the order in which they ran: the same instructions on every rank
};

// `ranks`: all of the program's. Times begin at 0.
std::string TraceJson(const program::ProgramT& program, const std::vector<RankTrace>& ranks);

}  // namespace autospc::metrics
