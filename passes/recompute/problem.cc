#include "passes/recompute/problem.h"

#include <algorithm>
#include <map>
#include <set>

#include "passes/ir/micro_batches.h"
#include "passes/memory/storage.h"
#include "runtime/base/alignment.h"

namespace autospc::recompute {
namespace {

using ir::Graph;
using ir::kNoValue;
using ir::Node;
using ir::Value;
using ir::ValueId;

class Describer {
 public:
  Describer(const Graph& graph, const memory::OpTraitsFn& traits, const CostFn& cost)
      : graph_(graph), traits_(traits), cost_(cost), bytes_(graph.num_values(), 0), store_of_(graph.num_values(), -1) {}

  Problem Run() {
    Measure();
    for (ir::NodeId id : graph_.nodes()) {
      const Node& node = graph_.node(id);
      if (memory::IsInstruction(graph_, node)) Add(node);
    }
    FindWrites();
    KeepParts();
    for (const ir::GraphOutput& out : graph_.outputs) {
      const int s = out.value == kNoValue ? -1 : store_of_[memory::Root(graph_, out.value)];
      if (s >= 0) problem_.stores[s].fixed = true;
    }
    problem_.backward = static_cast<int>(problem_.items.size());
    for (size_t i = problem_.items.size(); i-- > 0;) {
      const Item& item = problem_.items[i];
      if (graph_.node(item.node).phase == ir::Phase::kForward) break;
      problem_.backward = static_cast<int>(i);
    }
    for (size_t i = problem_.backward; i < problem_.items.size(); ++i) problem_.items[i].repeatable = false;
    for (const Store& s : problem_.stores) {
      if (s.fixed) problem_.items[s.maker].repeatable = false;
    }
    return std::move(problem_);
  }

 private:
  void Measure() {
    for (ValueId v = 0; v < graph_.num_values(); ++v) {
      if (!graph_.has_value(v)) continue;
      int64_t& bytes = bytes_[memory::Root(graph_, v)];
      bytes = std::max(bytes, graph_.value(v).byte_offset + memory::ExtentBytes(graph_.value(v)));
    }
    std::map<std::string, ValueId> owners;
    for (const ir::GraphInput& in : graph_.inputs) {
      const ValueId root = memory::Root(graph_, in.value);
      if (root != in.value) continue;
      if (!in.alias_of.empty() && owners.contains(in.alias_of)) {
        alias_[root] = owners[in.alias_of];
        continue;
      }
      owners.emplace(in.name, root);
      problem_.persistent_bytes += bytes_[root];  // not in the arena: as they are, and as a budget counts them
    }
  }

  ValueId Owner(ValueId v) const {
    const ValueId root = memory::Root(graph_, v);
    const auto it = alias_.find(root);
    return it == alias_.end() ? root : it->second;
  }

  void Add(const Node& node) {
    const int index = static_cast<int>(problem_.items.size());
    const memory::OpTraits traits = traits_ ? traits_(graph_, node) : memory::OpTraits{};
    Item item;
    item.node = node.id;
    item.scratch = Aligned(Aligned(traits.workspace_bytes) + traits.communication_bytes);
    item.repeatable = !ir::IsEffectful(node.op);
    const std::vector<ValueId> operands = node.Operands();
    for (ValueId v : operands) {
      const int s = store_of_[memory::Root(graph_, v)];
      if (s < 0) continue;
      if (std::find(item.reads.begin(), item.reads.end(), s) == item.reads.end()) item.reads.push_back(s);
    }
    int64_t made = 0;
    for (ValueId v : node.results) {
      if (graph_.value(v).base != kNoValue) continue;
      if (traits.in_place_ok) FindInPlace(node, traits, operands, v, item);
      store_of_[v] = static_cast<int>(problem_.stores.size());
      item.makes.push_back(store_of_[v]);
      problem_.stores.push_back({Aligned(bytes_[v]), index, false, v});
      made += problem_.stores.back().bytes;
    }
    item.seconds = times_ * (cost_ ? cost_(graph_, node) : static_cast<double>(made));
    times_ = ir::TimesBehind(node, times_);
    problem_.items.push_back(std::move(item));
  }

  // As the planner does it (memory/storage.cc), but for the question whether the operand dies.
  void FindInPlace(const Node& node, const memory::OpTraits& traits, const std::vector<ValueId>& operands, ValueId v, Item& item) {
    const Value& result = graph_.value(v);
    for (ValueId o : operands) {
      if (traits.first_operand_only && !(node.args[0].is_value() && node.args[0].value == o)) break;
      const ValueId root = memory::Root(graph_, o);
      const int s = store_of_[root];
      const Value& operand = graph_.value(o);
      if (s < 0 || !memory::SameGeometry(operand, result) || operand.byte_offset != 0) continue;
      if (bytes_[root] != memory::ExtentBytes(operand) || bytes_[v] != bytes_[root]) continue;
      int uses = 0;
      bool one_geometry = true;
      for (ValueId other : operands) {
        if (memory::Root(graph_, other) != root) continue;
        ++uses;
        one_geometry = one_geometry && memory::SameGeometry(graph_.value(other), result) && graph_.value(other).byte_offset == 0;
      }
      if (!one_geometry || (traits.first_operand_only && uses > 1)) continue;
      const int read = static_cast<int>(std::find(item.reads.begin(), item.reads.end(), s) - item.reads.begin());
      item.in_place.emplace_back(static_cast<int>(item.makes.size()), read);
    }
  }

  // Nothing may be read again behind an item that overwrites it, be it a parameter's update; readers and writers of
  // what is overwritten keep their order.
  void FindWrites() {
    const int end = static_cast<int>(problem_.items.size());
    std::map<ValueId, int> first_write, last_write;
    for (int i = 0; i < end; ++i) {
      for (ValueId v : memory::WrittenOperands(graph_.node(problem_.items[i].node))) {
        first_write.emplace(Owner(v), i);
        const int s = store_of_[memory::Root(graph_, v)];
        if (s >= 0) problem_.stores[s].fixed = true;
      }
    }
    std::map<ValueId, std::vector<int>> readers;  // since the last write
    for (int i = 0; i < end; ++i) {
      Item& item = problem_.items[i];
      item.before = end;
      const Node& node = graph_.node(item.node);
      std::set<ValueId> written;
      for (ValueId v : memory::WrittenOperands(node)) written.insert(Owner(v));
      for (ValueId v : node.Operands()) {
        const ValueId owner = Owner(v);
        const auto write = first_write.find(owner);
        if (write == first_write.end()) continue;
        item.before = std::min(item.before, write->second);
        if (const auto last = last_write.find(owner); last != last_write.end()) problem_.hazards.emplace_back(last->second, i);
        if (!written.contains(owner)) readers[owner].push_back(i);
      }
      for (ValueId owner : written) {
        for (int r : readers[owner]) problem_.hazards.emplace_back(r, i);
        readers[owner].clear();
        last_write[owner] = i;
      }
    }
  }

  // What runs once for each micro-batch, and what runs before and behind, stays so.
  void KeepParts() {
    for (size_t end = 0; end < problem_.items.size(); ++end) {
      if (!ir::EndsPart(graph_.node(problem_.items[end].node))) continue;
      for (size_t i = 0; i < problem_.items.size(); ++i) {
        if (i != end) problem_.hazards.emplace_back(std::min(i, end), std::max(i, end));
      }
    }
  }

  const Graph& graph_;
  const memory::OpTraitsFn& traits_;
  const CostFn& cost_;
  int times_ = 1;  // that the next item runs in a step
  Problem problem_;
  std::vector<int64_t> bytes_;   // by root value
  std::vector<int> store_of_;    // by root value; -1: persistent
  std::map<ValueId, ValueId> alias_;
};

}  // namespace

Problem Describe(const Graph& graph, const memory::OpTraitsFn& traits, const CostFn& cost) {
  return Describer(graph, traits, cost).Run();
}

}  // namespace autospc::recompute
