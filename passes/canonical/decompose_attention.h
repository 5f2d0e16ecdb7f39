// scaled_dot_product_attention whose mask is no predicate (random masks, biases as ALiBi's and T5's), written out
// so that the partitioner can split it by queries.
#pragma once

#include "passes/canonical/match.h"

namespace autospc::canonical {

// aten.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa).
namespace sdpa {
enum Argument : size_t { kQuery, kKey, kValue, kMask, kDropout, kCausal, kScale, kGroups };
}  // namespace sdpa

// Replaces the node by matmul, scale, mask, softmax, dropout and matmul, as ATen's math path computes it: a row
// without any allowed key gives zero. Returns whether it did: not without a mask, or over ranks that differ.
bool DecomposeSdpa(Graph& graph, NodeId id);

}  // namespace autospc::canonical
