// Attention as found in a graph, and the autosp.attention node made from it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "passes/canonical/match.h"
#include "runtime/base/predicate.h"

namespace autospc::canonical {

// out = dropout(softmax(scale * q k^T + mask)) v. q [B, Hq, Sq, D], k [B, Hkv, Sk, D], v [B, Hkv, Sk, Dv].
struct Attention {
  ValueId q = kNoValue, k = kNoValue, v = kNoValue;
  double scale = 1;
  double dropout_p = 0;
  Predicate predicate;
  std::vector<ValueId> vectors;  // [B, S] or [1, S], int64 or bool
};

// Emits the autosp.attention node before `before`; source and module are those of `like`. Returns `out`
// [B, Hq, Sq, Dv].
ValueId EmitAttention(Graph& graph, const Attention& attention, NodeId before, const Node& like);

// Sites number the dropouts of a graph, from 0 on: the next free one.
int64_t NextDropoutSite(const Graph& graph);

// Whether every query row has an allowed key, whatever the vectors hold. False: not proved.
bool NoRowIsEmpty(const Predicate& predicate, int64_t q_size, int64_t k_size);

}  // namespace autospc::canonical
