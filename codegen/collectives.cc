#include "codegen/collectives.h"

namespace autospc::codegen {

std::optional<int64_t> BytesSent(const ir::Graph& graph, const ir::Node& node, const Mesh& mesh) {
  const int64_t p = mesh.Size(ir::AxisOf(node));
  if (p <= 1 || !node.op.starts_with("autosp.") || node.args.empty()) return std::nullopt;
  if (node.op == "autosp.all_reduce_coalesced_" || node.op == "autosp.reduce_scatter_coalesced" ||
      node.op == "autosp.all_gather_coalesced_") {
    int64_t whole = 0, blocks = 0;  // bytes
    for (ir::ValueId v : node.args[0].values) {
      const ir::Value& x = graph.value(v);
      whole += x.bytes();
      blocks += (x.numel() + p - 1) / p * ir::ByteSize(x.dtype);
    }
    return node.op == "autosp.all_reduce_coalesced_" ? 2 * (p - 1) * whole / p : (p - 1) * blocks;
  }
  if (!node.args[0].is_value()) return std::nullopt;
  const ir::Value& x = graph.value(node.args[0].value);
  if (node.op == "autosp.all_reduce" || node.op == "autosp.all_reduce_") return 2 * (p - 1) * x.bytes() / p;
  if (node.op == "autosp.all_gather") return (p - 1) * x.bytes();
  if (node.op == "autosp.reduce_scatter") return (p - 1) * graph.value(node.results[0]).bytes();
  if (node.op == "autosp.all_to_all") {
    const int64_t whole = x.sizes[node.args[3].int_value()].value();
    return whole == 0 ? 0 : (p - 1) * (x.bytes() / whole * node.args[4].int_value());
  }
  if (node.op == "autosp.pad_last") {
    const int64_t block = x.sizes[node.args[1].int_value()].value();
    if (block == 0 || (node.args[2].int_value() - 1) / block == p - 1) return std::nullopt;
    return (p - 1) * (x.bytes() / block);
  }
  return std::nullopt;
}

}  // namespace autospc::codegen
