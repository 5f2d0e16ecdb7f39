// What the passes over sums of gradients ask of a differentiated graph.
#pragma once

#include <vector>

#include "passes/ir/graph.h"

namespace autospc::tile {

inline ir::ValueId Root(const ir::Graph& graph, ir::ValueId v) {
  return graph.value(v).base == ir::kNoValue ? v : graph.value(v).base;
}

inline bool SameLayout(const ir::Value& a, const ir::Value& b) { return a.sizes == b.sizes && a.strides == b.strides; }
inline bool SameGeometry(const ir::Value& a, const ir::Value& b) { return a.dtype == b.dtype && SameLayout(a, b); }

// The value that owns the storage of `v`, if `v` is all of it in the same order (a transpose of a transpose); else v.
inline ir::ValueId Whole(const ir::Graph& graph, ir::ValueId v) {
  const ir::Value &value = graph.value(v), &root = graph.value(Root(graph, v));
  return value.byte_offset == root.byte_offset && SameGeometry(value, root) ? root.id : v;
}

inline bool IsSum(const ir::Node& node) {
  return node.op == "aten.add.Tensor" && node.args[0].is_value() && node.args[1].is_value() &&
         node.args[2].is_number() && node.args[2].number() == 1;
}

// Uses of each storage, by the value that owns it: by nodes that are no views of it, and as outputs.
inline std::vector<int> CountUses(const ir::Graph& graph) {
  std::vector<int> uses(graph.num_values(), 0);
  for (const ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    for (const ir::ValueId v : node.Operands()) {
      bool view = !node.results.empty();
      for (const ir::ValueId r : node.results) view = view && graph.value(r).base == Root(graph, v);
      if (!view) ++uses[Root(graph, v)];
    }
  }
  for (const ir::GraphOutput& out : graph.outputs) ++uses[Root(graph, out.value)];
  return uses;
}

}  // namespace autospc::tile
