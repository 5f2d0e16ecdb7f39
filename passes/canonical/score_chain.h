// Hand-written attention: what stands between q k^T and probabilities times v.
#pragma once

#include <map>
#include <optional>
#include <vector>

#include "passes/canonical/match.h"

namespace autospc::canonical {

// One op between the scores and the softmax, innermost (next to q k^T) first.
struct ScoreStep {
  enum class Kind : uint8_t { kScale, kAdd, kKeep, kFill };
  Kind kind = Kind::kScale;
  NodeId node = kNoNode;
  Arg operand;  // kScale: the factor or divisor; kAdd: what is added; kKeep, kFill: the fill elsewhere, or there
  ValueId condition = kNoValue;  // kKeep: scores stay where it is true; kFill: they are replaced where it is
  bool inverted = false;         // kScale: a divisor; kAdd: subtracted
  double times = 1;              // kAdd: a constant factor of the operand
};

// softmax(steps(q k^T)) v, with dropout on the probabilities. Ranks are those of the graph.
struct ScoreChain {
  ValueId q = kNoValue;  // [..., Sq, D]
  ValueId k = kNoValue;  // [..., Sk, D], or [..., D, Sk] if k_transposed
  bool k_transposed = false;
  ValueId v = kNoValue;  // [..., Sk, Dv]
  std::vector<int64_t> q_order, k_order, v_order,
      out_order;  // permutations to make of them first (einsum); empty: none
  std::vector<ScoreStep> steps;
  double dropout_p = 0;
  NodeId product = kNoNode;  // the node of q k^T
  NodeId output = kNoNode;   // the node of the product with v
};

// Users of every value, and the values that are outputs.
using Uses = std::map<ValueId, std::vector<NodeId>>;

// The chain that ends in `output`, a matmul, bmm or einsum. Nothing unless every value between the products is
// used by the chain alone.
std::optional<ScoreChain> MatchScoreChain(const Graph& graph, const Uses& uses, NodeId output);

}  // namespace autospc::canonical
