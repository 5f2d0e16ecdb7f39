// undo-repeat-kv: autosp.attention reads key and value heads in groups, so repeating them is not needed.
#include "passes/canonical/attention_operands.h"
#include "passes/canonical/register.h"

namespace autospc::canonical {
namespace {

// x [B, Hkv, S, D] of which v [B, Hkv * times, S, D] repeats each head `times` times in a row, as repeat_interleave,
// as unsqueeze(2), expand, reshape (Hugging Face's repeat_kv), or as an expand of one head.
struct Repeat {
  ValueId source = kNoValue;  // [B, Hkv, S, D], or [B, Hkv, 1, S, D]
  int64_t heads = 0;
};

Repeat FindRepeat(const Graph& graph, ValueId v) {
  if (v == kNoValue) return {};
  const Value& out = graph.value(v);
  while (const Node* copy = graph.producer(v)) {
    if (!Is(*copy, "aten.contiguous") && !Is(*copy, "aten.clone")) break;
    v = ValueAt(*copy, 0);
  }
  const Node* node = graph.producer(v);
  if (!node || out.rank() != 4) return {};
  const std::vector<int64_t> sizes = out.int_sizes();
  if (Is(*node, "aten.repeat_interleave") && IntAt(*node, 1, 0) > 0 && IntAt(*node, 2) &&
      WrapDim(IntAt(*node, 2, 0), 4) == 1) {
    return {ValueAt(*node, 0), sizes[1] / IntAt(*node, 1, 1)};
  }
  if (Is(*node, "aten.expand") &&
      graph.value(ValueAt(*node, 0)).int_sizes() == std::vector<int64_t>{sizes[0], 1, sizes[2], sizes[3]}) {
    return {ValueAt(*node, 0), 1};
  }
  if (!Is(*node, "aten.reshape") && !Is(*node, "aten.view") && !Is(*node, "aten._unsafe_view")) return {};
  ValueId wide = ValueAt(*node, 0);
  while (const Node* copy = graph.producer(wide)) {
    if (!Is(*copy, "aten.contiguous") && !Is(*copy, "aten.clone")) break;
    wide = ValueAt(*copy, 0);
  }
  const Node* expand = ProducerIs(graph, wide, "aten.expand");
  if (!expand) return {};
  const std::vector<int64_t> to = graph.value(wide).int_sizes(), from = graph.value(ValueAt(*expand, 0)).int_sizes();
  const bool fits = to.size() == 5 && from.size() == 5 && from[0] == to[0] && from[1] == to[1] && from[2] == 1 &&
                    from[3] == to[3] && from[4] == to[4] &&
                    sizes == std::vector<int64_t>{to[0], to[1] * to[2], to[3], to[4]};
  return fits ? Repeat{ValueAt(*expand, 0), to[1]} : Repeat{};
}

}  // namespace

Result<bool> UndoRepeatKv(ir::Graph& graph, PassContext&) {
  bool changed = false;
  const std::vector<NodeId> nodes(graph.nodes().begin(), graph.nodes().end());
  for (const NodeId id : nodes) {
    if (graph.node(id).op != "autosp.attention") continue;
    for (;;) {
      const Repeat k = FindRepeat(graph, ValueAt(graph.node(id), 1)), v = FindRepeat(graph, ValueAt(graph.node(id), 2));
      if (k.source == kNoValue || v.source == kNoValue || k.heads != v.heads) break;
      for (const size_t arg : {size_t{1}, size_t{2}}) {
        const ValueId source = arg == 1 ? k.source : v.source;
        const std::vector<int64_t> sizes = graph.value(source).int_sizes();
        const Node* unsqueeze = ProducerIs(graph, source, "aten.unsqueeze");
        ValueId own = source;
        if (sizes.size() == 5 && unsqueeze) {
          own = ValueAt(*unsqueeze, 0);
        } else if (sizes.size() == 5) {
          const Node like = graph.node(id);
          own = EmitReshape(graph, source, {sizes[0], sizes[1], sizes[3], sizes[4]}, id, like);
        }
        graph.node(id).args[arg].value = own;
      }
      changed = true;
    }
  }
  if (changed) graph.EliminateDeadCode();
  return changed;
}

}  // namespace autospc::canonical
