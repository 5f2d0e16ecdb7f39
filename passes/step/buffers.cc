#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "passes/ir/micro_batches.h"
#include "passes/step/order.h"
#include "passes/step/register.h"

namespace autospc::step {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;
using ir::ValueId;

// At the step's end; of several micro-batches at the end of each, which sees what the one before has written.
Node& AddStep(Graph& graph, std::string op, std::vector<Arg> args, std::vector<ValueId> results, const std::string& module) {
  const auto end = std::find_if(graph.nodes().begin(), graph.nodes().end(),
                                [&](ir::NodeId id) { return graph.node(id).op == ir::kMicroBatchesEnd; });
  const bool last = end == graph.nodes().end();
  Node& node = graph.node(graph.AddNode(std::move(op), std::move(args), std::move(results), last ? ir::kNoNode : *end));
  node.phase = last ? ir::Phase::kStep : ir::Phase::kBackward;
  node.module = module;
  return node;
}

// `v`'s contents in a storage of its own.
ValueId Clone(Graph& graph, ValueId v, const std::string& module) {
  const ir::Value& x = graph.value(v);
  const ir::Placement placement = x.placement, dp_placement = x.dp_placement;
  const ValueId copy = graph.AddValue("old", x.dtype, x.sizes, ContiguousStrides(x.sizes));
  graph.value(copy).placement = placement;
  graph.value(copy).dp_placement = dp_placement;
  AddStep(graph, "aten.clone.default", {Arg::Value(v), Arg::MemoryFormat("contiguous")}, {copy}, module);
  return copy;
}

}  // namespace

Result<bool> WriteBuffers(Graph& graph, PassContext& context) {
  std::map<std::string, ValueId> buffers;
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.kind == ir::InputKind::kBuffer) buffers.emplace(in.name, in.value);
  }
  const Order order(graph);
  std::set<ValueId> updated;  // storages
  for (const ir::GraphOutput& out : graph.outputs) {
    if (out.kind != ir::OutputKind::kBufferUpdate) continue;
    const auto buffer = buffers.find(out.name);
    if (buffer == buffers.end()) {
      return Error{Code::kFailed, fmt::format("the update '{}' belongs to no buffer", out.name), "", "this is a bug of the compiler"};
    }
    if (out.value != buffer->second) updated.insert(order.Owner(buffer->second));
  }
  if (updated.empty()) return false;
  // The old contents that another update still needs (two buffers that change places) are set aside first.
  for (ir::GraphOutput& out : graph.outputs) {
    if (out.kind != ir::OutputKind::kBufferUpdate || out.value == buffers[out.name]) continue;
    if (updated.contains(order.Owner(out.value))) out.value = Clone(graph, out.value, out.name);
  }
  for (ir::GraphOutput& out : graph.outputs) {
    const ValueId buffer = out.kind == ir::OutputKind::kBufferUpdate ? buffers[out.name] : out.value;
    if (out.value == buffer) continue;
    AddStep(graph, "aten.copy_.default", {Arg::Value(buffer), Arg::Value(out.value), Arg::Bool(false)}, {}, out.name);
    out.value = buffer;
  }
  return true;
}

}  // namespace autospc::step
