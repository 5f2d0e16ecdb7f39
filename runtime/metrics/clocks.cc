#include "runtime/metrics/clocks.h"

#include <algorithm>
#include <limits>

namespace autospc::metrics {

std::vector<ClockOffset> AlignClocks(const std::vector<std::vector<ClockReading>>& readings) {
  std::vector<ClockOffset> offsets(readings.size());
  for (size_t r = 1; r < readings.size(); ++r) {
    int64_t low = std::numeric_limits<int64_t>::min(), high = std::numeric_limits<int64_t>::max();
    for (size_t round = 0; round < readings[r].size(); ++round) {
      const ClockReading &mine = readings[r][round], &first = readings[0][round];
      low = std::max(low, mine.sent - first.received);   // sent here before it was received there
      high = std::min(high, mine.received - first.sent);  // sent there before it was received here
    }
    // Clocks that drift may leave no intersection: then the two bounds lie that close together.
    offsets[r].nanoseconds = low + (high - low) / 2;
    offsets[r].error = (high > low ? high - low : low - high) / 2 + 1;
  }
  return offsets;
}

}  // namespace autospc::metrics
