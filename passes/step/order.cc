#include "passes/step/order.h"

#include <algorithm>
#include <map>
#include <utility>

namespace autospc::step {

using ir::kNoValue;
using ir::ValueId;

Order::Order(const ir::Graph& graph)
    : graph_(graph),
      positions_(graph.num_node_ids(), -1),
      owner_(graph.num_values(), kNoValue),
      last_use_(graph.num_values(), -1),
      last_write_(graph.num_values(), -1) {
  std::map<std::string_view, ValueId> inputs;
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.alias_of.empty()) inputs.emplace(in.name, in.value);
  }
  for (ValueId v = 0; v < graph.num_values(); ++v) {
    if (graph.has_value(v)) owner_[v] = graph.value(v).base == kNoValue ? v : graph.value(v).base;
  }
  std::map<ValueId, ValueId> renamed;
  for (const ir::GraphInput& in : graph.inputs) {
    const auto target = in.alias_of.empty() ? inputs.end() : inputs.find(in.alias_of);
    if (target != inputs.end()) renamed.emplace(in.value, target->second);
  }
  for (ValueId& owner : owner_) {
    const auto it = owner == kNoValue ? renamed.end() : renamed.find(owner);
    if (it != renamed.end()) owner = it->second;
  }
  for (ir::NodeId id : graph.nodes()) {
    const int position = size();
    positions_[id] = position;
    nodes_.push_back(id);
    const ir::Node& node = graph.node(id);
    for (ValueId v : node.Operands()) last_use_[owner_[v]] = position;
    for (ValueId v : node.results) {
      last_use_[owner_[v]] = std::max(last_use_[owner_[v]], position);
      if (graph.value(v).base == kNoValue) last_write_[v] = position;
    }
    // The ops of the step that write write their first argument, and the updates are not there yet.
    if (!ir::IsEffectful(node.op) || node.args.empty()) continue;
    if (node.args[0].is_value()) last_write_[owner_[node.args[0].value]] = position;
    for (ValueId v : node.args[0].values) last_write_[owner_[v]] = position;
  }
}

int Order::born(ValueId v) const {
  const ir::NodeId producer = graph_.value(v).producer;
  return producer == ir::kNoNode ? -1 : positions_[producer];
}

int Order::final_at(ValueId v) const { return std::max(born(v), last_write_[owner_[v]]); }

PlacedAxes IsPlaced(const ir::Graph& graph) {
  PlacedAxes axes;
  for (const ir::GraphInput& in : graph.inputs) {
    axes.sp = axes.sp || !graph.value(in.value).placement.is_none();
    axes.dp = axes.dp || !graph.value(in.value).dp_placement.is_none();
  }
  return axes;
}

std::vector<ir::Expr> ContiguousStrides(const std::vector<ir::Expr>& sizes) {
  std::vector<ir::Expr> strides(sizes.size(), ir::Expr(1));
  for (size_t d = sizes.size(); d-- > 1;) {
    strides[d - 1] = strides[d].value() * std::max<int64_t>(sizes[d].value(), 1);
  }
  return strides;
}

bool IsDense(const ir::Value& x) {
  if (x.strides.size() != x.sizes.size()) return false;
  std::vector<std::pair<int64_t, int64_t>> dims;  // stride, size
  for (size_t d = 0; d < x.sizes.size(); ++d) {
    if (x.sizes[d].value() != 1) dims.emplace_back(x.strides[d].value(), x.sizes[d].value());
  }
  std::sort(dims.begin(), dims.end());
  int64_t expected = 1;
  for (const auto& [stride, size] : dims) {
    if (stride != expected) return false;
    expected *= size;
  }
  return true;
}

GradientUses::GradientUses(const ir::Graph& graph) : graph_(graph), users_(graph.AllUsers()) {
  for (const ir::GraphOutput& out : graph.outputs) {
    (out.kind == ir::OutputKind::kGradient ? gradients_ : others_).insert(out.value);
  }
}

bool GradientUses::OnlyGradient(ir::ValueId v) const {
  if (others_.contains(v)) return false;
  const auto users = users_.find(v);
  if (users == users_.end()) return gradients_.contains(v);
  return std::all_of(users->second.begin(), users->second.end(), [&](ir::NodeId id) {
    const ir::Node& user = graph_.node(id);
    return user.results.size() == 1 && graph_.value(user.results[0]).base != ir::kNoValue && OnlyGradient(user.results[0]);
  });
}

}  // namespace autospc::step
