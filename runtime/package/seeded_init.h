// Weights made from a seed, for runs without a checkpoint (--init SEED): the same at every number of ranks, on
// every machine, in the compiler and at run time. An element depends on the seed, its tensor's name and its
// row-major index alone.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc {

// Fills `out` (numel elements of `dtype`, row-major). Parameters of two dims or more are drawn from a normal
// distribution with deviation 0.02 (GPT-2's); those of fewer dims are 0 if the name ends in "bias", else 1 (the
// weights of norms). Buffers are 0, or 1 if the name ends in "var" (running variances). kBadInput for a buffer
// of integers, except a batch counter: nobody can guess its data.
Status FillSeeded(uint64_t seed, program::StorageKind kind, std::string_view name, program::DType dtype,
                  const std::vector<int64_t>& sizes, void* out);

}  // namespace autospc
