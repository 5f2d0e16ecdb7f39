// Predicates as boolean tensors, by LibTorch's ops, and what of a tile can be known of them without looking at vectors.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "runtime/base/predicate.h"
#include "runtime/exec/predicate_tiles.h"

namespace autospc::exec {

// Keys [k.begin, k.end) and query positions `q` (int64 [R]): bool [1 or B, 1, R or 1, K or 1], true where the query may see
// the key. `vectors`: [B or 1, S] each, int64 or bool, on the device of q.
at::Tensor AllowedPairs(const Predicate& predicate, const at::Tensor& q, Interval k, const std::vector<at::Tensor>& vectors);

// The part of `k` outside of which no query of `q` sees a key, whatever the vectors hold; empty if there is none.
Interval AllowedWithoutVectors(const Predicate& predicate, Interval q, Interval k);

// Whether each query of `q` sees each key of `k`, whatever the vectors hold. False means "not known".
bool AllowsAllWithoutVectors(const Predicate& predicate, Interval q, Interval k);

}  // namespace autospc::exec
