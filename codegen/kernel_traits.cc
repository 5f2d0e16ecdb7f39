#include "codegen/kernel_traits.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "runtime/package/portable_workspace.h"

namespace autospc::codegen {

TensorMeta MetaOf(const ir::Value& value) {
  TensorMeta meta{static_cast<program::DType>(value.dtype), value.int_sizes(), value.int_strides()};
  if (meta.strides.size() == meta.sizes.size()) return meta;
  meta.strides.assign(meta.sizes.size(), 1);
  for (size_t d = meta.sizes.size(); d-- > 1;) meta.strides[d - 1] = meta.strides[d] * std::max<int64_t>(meta.sizes[d], 1);
  return meta;
}

memory::OpTraitsFn KernelTraits(const Mesh& mesh, HasOutFn has_out, const std::string& device) {
  auto known = std::make_shared<std::map<std::string, bool>>();
  const bool portable = device != "cpu";
  return [mesh, has_out = std::move(has_out), known, portable](const ir::Graph& graph, const ir::Node& node) {
    auto it = known->find(node.op);
    if (it == known->end()) it = known->emplace(node.op, has_out && has_out(node.op)).first;
    const bool out = it->second;
    std::vector<TensorMeta> operands, results;
    for (ir::ValueId v : node.Operands()) operands.push_back(MetaOf(graph.value(v)));
    for (ir::ValueId v : node.results) results.push_back(MetaOf(graph.value(v)));
    const int ranks = mesh.Size(ir::AxisOf(node));
    memory::OpTraits traits;
    const InPlace in_place = MayRunInPlace(node.op, out, results.size());
    traits.in_place_ok = in_place != InPlace::kNever;
    traits.first_operand_only = in_place == InPlace::kFirst;
    traits.workspace_bytes = portable ? PortableWorkspace(node.op, operands, results)
                                      : KernelWorkspace(node.op, operands, results, ranks, out);
    traits.communication_bytes = CommunicationWorkspace(node.op, operands, results, ranks);
    return traits;
  };
}

}  // namespace autospc::codegen
