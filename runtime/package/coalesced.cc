#include "runtime/package/coalesced.h"

#include <algorithm>

namespace autospc {
namespace {

// Of one buffer: long enough that its messages outweigh their latency, short beside a bucket.
constexpr int64_t kRoundBytes = 4 << 20;

}  // namespace

CoalescedReduce PlanCoalescedReduce(const std::vector<int64_t>& bytes, int64_t element_bytes, int64_t ranks) {
  CoalescedReduce plan;
  int64_t largest = 0;
  for (size_t first = 0; first < bytes.size();) {
    int64_t sum = bytes[first];
    size_t behind = first + 1;
    while (behind < bytes.size() && sum + bytes[behind] <= kRoundBytes) sum += bytes[behind++];
    plan.groups.emplace_back(first, behind);
    if (behind - first > 1) plan.packed_bytes = std::max(plan.packed_bytes, sum);
    largest = std::max(largest, sum);
    first = behind;
  }
  // At least an element from each rank for each rank.
  plan.staging_bytes = std::max(ranks * ranks * element_bytes, std::min(largest, kRoundBytes));
  return plan;
}

int64_t RoundColumns(int64_t columns, int64_t element_bytes, int64_t ranks) {
  return std::max<int64_t>(1, std::min(columns, kRoundBytes / (ranks * element_bytes)));
}

}  // namespace autospc
