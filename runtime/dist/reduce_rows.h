// How addends of several ranks become one value: in the order of ranks, so that the sum is the same on every
// rank and transport.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <string_view>

#include "runtime/base/result.h"

namespace autospc {

enum class ReduceOp : uint8_t { kSum, kMax };

Result<ReduceOp> ParseReduceOp(std::string_view name);  // "sum", "max"

// kUnsupported for what has no such reduction: sums of bool, maxima of complex numbers.
Status CheckReducible(c10::ScalarType type, ReduceOp op);

// out [n] = rows [count, n] combined in the order of rows, in host memory. Sums of float16 and bfloat16 accumulate
// in float32; a NaN wins a maximum. `out` must not overlap rows.
Status ReduceRows(const void* rows, void* out, int64_t count, int64_t n, c10::ScalarType type, ReduceOp op);

}  // namespace autospc
