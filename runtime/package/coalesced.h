// How collectives over many tensors go about it: which of them travel together, and the bytes of the buffers of
// a round. Compiler (the plan) and runtime (the kernels) both ask here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace autospc {

// All-reduce of several tensors, in place.
struct CoalescedReduce {
  std::vector<std::pair<size_t, size_t>> groups;  // [first, behind) of the list; one tensor is reduced where it lies
  int64_t packed_bytes = 0;                       // of the largest group of several
  int64_t staging_bytes = 0;                      // for Communicator::AllReduce
};
CoalescedReduce PlanCoalescedReduce(const std::vector<int64_t>& bytes, int64_t element_bytes, int64_t ranks);

// Of `columns` elements that every rank sends every other, how many go in one round.
int64_t RoundColumns(int64_t columns, int64_t element_bytes, int64_t ranks);

}  // namespace autospc
