// The clocks of ranks on different machines, laid over each other without a time server. In a round every rank reads
// its clock, gives the reading to all others (an all-gather), and reads its clock again when it has theirs. Nothing
// arrives before it was sent, so each round bounds the difference of two clocks from both sides, and all rounds together
// leave the intersection (Marzullo and Owicki, 1983, on intervals of time servers).
#pragma once

#include <cstdint>
#include <vector>

namespace autospc::metrics {

struct ClockReading {  // of one rank in one round, nanoseconds of its own clock
  int64_t sent = 0;
  int64_t received = 0;
};

struct ClockOffset {
  int64_t nanoseconds = 0;  // the rank's clock minus rank 0's
  int64_t error = 0;        // it is right within so many nanoseconds
};

// readings[rank][round], the same number of rounds of each rank, at least one.
std::vector<ClockOffset> AlignClocks(const std::vector<std::vector<ClockReading>>& readings);

}  // namespace autospc::metrics
