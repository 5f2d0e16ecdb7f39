#include "passes/memory/storage.h"

#include <algorithm>
#include <map>

namespace autospc::memory {
namespace {

using ir::Graph;
using ir::kNoValue;
using ir::Node;
using ir::Value;
using ir::ValueId;

StorageKind KindOf(const ir::GraphInput& input) {
  switch (input.kind) {
    case ir::InputKind::kParameter: return StorageKind::kParameter;
    case ir::InputKind::kBuffer: return StorageKind::kBuffer;
    case ir::InputKind::kConstant: return StorageKind::kConstant;
    case ir::InputKind::kUser: return StorageKind::kInput;
    case ir::InputKind::kState: break;
  }
  // Scalars of the step are written before each step, as inputs are; they are no state.
  return input.name == "lr" || input.name == "step" ? StorageKind::kInput : StorageKind::kOptimizer;
}

// Ops of the step that read gradients in their first argument alone or in all, and those whose results are gradients.
bool TakesGradients(std::string_view op) {
  return op == "autosp.accumulate_" || op == "autosp.all_reduce_" || op == "autosp.all_reduce_coalesced_" || op == "autosp.grad_norm" ||
         op == "autosp.sum_of_squares" || op == "autosp.own_block" || op == "autosp.reduce_scatter_coalesced";
}
bool MakesGradients(std::string_view op) {
  return op == "autosp.own_block" || op == "autosp.reduce_scatter_coalesced";
}

class Finder {
 public:
  Finder(const Graph& graph, const OpTraitsFn& traits) : graph_(graph), traits_(traits) {}

  MemoryPlan Run() {
    NumberInstructions();
    MeasureRoots();
    AddInputs();
    for (size_t i = 0; i < plan_.instructions.size(); ++i) AddInstruction(static_cast<int>(i));
    LocateViews();
    FindOutputs();
    return std::move(plan_);
  }

 private:
  void NumberInstructions() {
    plan_.instruction_of.assign(graph_.num_node_ids(), -1);
    plan_.scratch_of.assign(graph_.num_node_ids(), -1);
    for (ir::NodeId id : graph_.nodes()) {
      if (!IsInstruction(graph_, graph_.node(id))) continue;
      plan_.instruction_of[id] = static_cast<int>(plan_.instructions.size());
      plan_.instructions.push_back(id);
    }
  }

  // Bytes, last use and last write of each own-storage value, over all its views.
  void MeasureRoots() {
    bytes_.assign(graph_.num_values(), 0);
    last_use_.assign(graph_.num_values(), -1);
    last_write_.assign(graph_.num_values(), -1);
    is_gradient_.assign(graph_.num_values(), false);
    for (ValueId v = 0; v < graph_.num_values(); ++v) {
      if (!graph_.has_value(v)) continue;
      const Value& value = graph_.value(v);
      int64_t& bytes = bytes_[Root(graph_, v)];
      bytes = std::max(bytes, value.byte_offset + ExtentBytes(value));
    }
    for (size_t i = 0; i < plan_.instructions.size(); ++i) {
      const Node& node = graph_.node(plan_.instructions[i]);
      const int index = static_cast<int>(i);
      const bool takes_gradients = TakesGradients(node.op), makes_gradients = MakesGradients(node.op);
      for (ValueId v : node.Operands()) {
        const ValueId root = Root(graph_, v);
        last_use_[root] = index;
        if (takes_gradients) is_gradient_[root] = true;
      }
      for (ValueId v : WrittenOperands(node)) last_write_[Root(graph_, v)] = index;
      for (ValueId v : node.results) {
        const ValueId root = Root(graph_, v);
        last_use_[root] = std::max(last_use_[root], index);
        last_write_[root] = std::max(last_write_[root], index);
        if (makes_gradients) is_gradient_[root] = true;
      }
    }
    for (const ir::GraphOutput& out : graph_.outputs) {
      if (out.kind == ir::OutputKind::kGradient) is_gradient_[Root(graph_, out.value)] = true;
    }
    plan_.locations.assign(graph_.num_values(), Location{});
  }

  void AddInputs() {
    std::map<std::string, int> by_name;
    const int last = static_cast<int>(plan_.instructions.size()) - 1;
    for (const ir::GraphInput& in : graph_.inputs) {
      const ValueId root = Root(graph_, in.value);
      if (root != in.value) continue;  // a view of another input: located below
      const auto owner = in.alias_of.empty() ? by_name.end() : by_name.find(in.alias_of);
      if (owner != by_name.end()) {
        plan_.locations[root] = {owner->second, 0};
        Storage& s = plan_.storages[owner->second];
        s.bytes = std::max(s.bytes, bytes_[root]);
        continue;
      }
      by_name.emplace(in.name, static_cast<int>(plan_.storages.size()));
      plan_.locations[root] = {AddStorage({KindOf(in), bytes_[root], -1, 0, last, root, ir::kNoNode}), 0};
    }
  }

  void AddInstruction(int index) {
    const ir::NodeId id = plan_.instructions[index];
    const Node& node = graph_.node(id);
    const OpTraits traits = traits_ ? traits_(graph_, node) : OpTraits{};
    for (ValueId v : node.results) {
      if (graph_.value(v).base != kNoValue) continue;
      const int reused = traits.in_place_ok ? FindDyingOperand(node, traits, index, v) : -1;
      if (reused >= 0) {
        Storage& s = plan_.storages[reused];
        s.last = std::max(index, last_use_[v]);
        if (is_gradient_[v]) s.kind = StorageKind::kGradient;
        plan_.locations[v] = {reused, 0};
        continue;
      }
      const StorageKind kind = is_gradient_[v] ? StorageKind::kGradient : StorageKind::kActivation;
      plan_.locations[v] = {AddStorage({kind, bytes_[v], -1, index, std::max(index, last_use_[v]), v, id}), 0};
    }
    // One storage serves both: the instruction names one.
    const int64_t staging = traits.communication_bytes;
    const int64_t scratch = Aligned(traits.workspace_bytes) + staging;
    if (scratch > 0) {
      const StorageKind kind = staging > 0 ? StorageKind::kCommunication : StorageKind::kWorkspace;
      plan_.scratch_of[id] = AddStorage({kind, scratch, -1, index, index, kNoValue, id});
    }
  }

  // The storage of an operand that result `v` of `node` can be written over, or -1. The operand must fill its
  // storage, die here with all its views, and be read here in this one geometry alone: x + x.t() over x would
  // read what it has overwritten.
  int FindDyingOperand(const Node& node, const OpTraits& traits, int index, ValueId v) {
    const Value& result = graph_.value(v);
    const std::vector<ValueId> operands = node.Operands();
    for (ValueId o : operands) {
      if (traits.first_operand_only && !(node.args[0].is_value() && node.args[0].value == o)) break;
      const ValueId root = Root(graph_, o);
      const int s = plan_.locations[root].storage;
      if (s < 0 || IsPersistent(plan_.storages[s].kind) || last_use_[root] != index) continue;
      if (plan_.storages[s].last != index) continue;  // already given to another result, which lives on
      const Value& operand = graph_.value(o);
      if (!SameGeometry(operand, result) || operand.byte_offset != 0) continue;
      const int64_t bytes = plan_.storages[s].bytes;
      if (bytes != ExtentBytes(operand) || bytes_[v] != bytes || taken_at_[s] == index) continue;
      const bool one_geometry = std::all_of(operands.begin(), operands.end(), [&](ValueId other) {
        const Value& x = graph_.value(other);
        return plan_.locations[Root(graph_, other)].storage != s || (SameGeometry(x, result) && x.byte_offset == 0);
      });
      const auto uses = std::count_if(operands.begin(), operands.end(), [&](ValueId other) {
        return plan_.locations[Root(graph_, other)].storage == s;
      });
      if (!one_geometry || (traits.first_operand_only && uses > 1)) continue;
      taken_at_[s] = index;
      return s;
    }
    return -1;
  }

  void LocateViews() {
    for (ValueId v = 0; v < graph_.num_values(); ++v) {
      if (!graph_.has_value(v)) continue;
      const Value& value = graph_.value(v);
      if (value.base != kNoValue) plan_.locations[v] = {plan_.locations[value.base].storage, value.byte_offset};
    }
  }

  void FindOutputs() {
    for (const ir::GraphOutput& out : graph_.outputs) {
      plan_.output_after.push_back(out.value == kNoValue ? -1 : last_write_[Root(graph_, out.value)]);
    }
  }

  int AddStorage(Storage s) {
    plan_.storages.push_back(s);
    taken_at_.push_back(-1);
    return static_cast<int>(plan_.storages.size()) - 1;
  }

  const Graph& graph_;
  const OpTraitsFn& traits_;
  MemoryPlan plan_;
  std::vector<int64_t> bytes_;                      // by root value
  std::vector<int> last_use_, last_write_;          // by root value
  std::vector<bool> is_gradient_;                   // by root value
  std::vector<int> taken_at_;                       // by storage: the instruction that reused it in place
};

}  // namespace

std::string_view Name(StorageKind kind) {
  static constexpr std::string_view kNames[kNumStorageKinds] = {
      "parameter", "buffer", "constant", "input", "optimizer", "gradient", "activation", "workspace", "communication"};
  return kNames[static_cast<int>(kind)];
}

bool SameGeometry(const Value& a, const Value& b) {
  return a.dtype == b.dtype && a.sizes == b.sizes && a.strides == b.strides;
}

int64_t ExtentBytes(const Value& value) {
  if (value.strides.size() != value.sizes.size()) return value.bytes();
  int64_t last = 0;
  for (size_t d = 0; d < value.sizes.size(); ++d) {
    const int64_t size = value.sizes[d].value();
    if (size == 0) return 0;
    last += (size - 1) * value.strides[d].value();
  }
  return (last + 1) * ir::ByteSize(value.dtype);
}

bool IsInstruction(const Graph& graph, const Node& node) {
  if (ir::IsEffectful(node.op)) return true;
  return std::any_of(node.results.begin(), node.results.end(),
                     [&](ValueId v) { return graph.value(v).base == kNoValue; });
}

std::vector<ValueId> WrittenOperands(const Node& node) {
  std::vector<ValueId> written;
  if (!ir::IsEffectful(node.op)) return written;
  // Only the fused updates write more than their first argument: p, master and, for AdamW, m and v.
  std::vector<size_t> positions = {0};
  if (node.op == "autosp.adamw_" || node.op == "autosp.adamw_shard_") positions = {0, 1, 3, 4};
  if (node.op == "autosp.sgd_" || node.op == "autosp.sgd_shard_") positions = {0, 1};
  for (size_t i : positions) {
    if (i >= node.args.size()) continue;
    if (node.args[i].is_value()) written.push_back(node.args[i].value);
    for (ValueId v : node.args[i].values) {
      if (v != kNoValue) written.push_back(v);
    }
  }
  return written;
}

MemoryPlan FindStorages(const Graph& graph, const OpTraitsFn& traits) { return Finder(graph, traits).Run(); }

}  // namespace autospc::memory
