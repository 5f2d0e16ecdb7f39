// recognise-attention: attention, however written, becomes autosp.attention.
#include <cmath>

#include "passes/canonical/attention.h"
#include "passes/canonical/register.h"

namespace autospc::canonical {
namespace {

// aten.scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa).
enum SdpaArg : size_t { kQuery, kKey, kValue, kMask, kDropout, kCausal, kScale };

bool FromSdpa(Graph& graph, NodeId id) {
  const Node node = graph.node(id);
  Attention a;
  a.q = ValueAt(node, kQuery);
  a.k = ValueAt(node, kKey);
  a.v = ValueAt(node, kValue);
  const Value& q = graph.value(a.q);
  if (q.rank() != 4 || ValueAt(node, kMask) != kNoValue) return false;
  a.scale = NumberAt(node, kScale).value_or(1 / std::sqrt(static_cast<double>(q.sizes[3].value())));
  a.dropout_p = NumberAt(node, kDropout).value_or(0);
  if (BoolAt(node, kCausal, false)) a.predicate = Predicate::Causal();
  const ValueId out = EmitAttention(graph, a, id, node);
  graph.ReplaceUses(node.results[0], out);
  graph.EraseNode(id);
  return true;
}

}  // namespace

Result<bool> RecogniseAttention(ir::Graph& graph, PassContext& context) {
  bool changed = false;
  const std::vector<NodeId> nodes(graph.nodes().begin(), graph.nodes().end());
  for (NodeId id : nodes) {
    if (graph.has_node(id) && Is(graph.node(id), "aten.scaled_dot_product_attention")) changed |= FromSdpa(graph, id);
  }
  return changed;
}

}  // namespace autospc::canonical
