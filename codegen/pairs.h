// How many (query, key) pairs an attention predicate allows: what attention costs.
#pragma once

#include <cstdint>

#include "runtime/base/predicate.h"

namespace autospc::codegen {

// Pairs with query positions min(q_first + i, q_valid - 1) for i in [0, q_len) and key positions in [0, k_len).
// Exact where the predicate speaks of positions alone. What the data decides (segments, key padding) counts
// as allowed, also under a negation: an upper bound.
int64_t CountAllowed(const Predicate& predicate, int64_t q_first, int64_t q_len, int64_t q_valid, int64_t k_len);

}  // namespace autospc::codegen
