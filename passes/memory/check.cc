#include "passes/memory/check.h"

#include <algorithm>
#include <map>

namespace autospc::memory {
namespace {

using ir::Graph;
using ir::kNoValue;
using ir::Node;
using ir::Value;
using ir::ValueId;

struct Range {
  int64_t from = 0, to = 0;  // bytes of the arena, half open
  bool empty() const { return from >= to; }
  bool Overlaps(const Range& o) const { return from < o.to && o.from < to && !empty() && !o.empty(); }
  bool operator==(const Range&) const = default;
};

// Who wrote each byte of the arena last: disjoint segments by their start.
class Contents {
 public:
  static constexpr int kNobody = -2;
  static constexpr int kScratch = -3;

  void Write(Range r, int owner) {
    if (r.empty()) return;
    Split(r.from);
    Split(r.to);
    segments_.erase(segments_.lower_bound(r.from), segments_.lower_bound(r.to));
    segments_.emplace(r.from, Segment{r.to, owner});
  }

  // The first owner other than `owner` of a byte of r, or `owner` if all are its.
  int Intruder(Range r, int owner) const {
    if (r.empty()) return owner;
    auto it = segments_.upper_bound(r.from);
    if (it == segments_.begin()) return kNobody;
    --it;
    int64_t at = r.from;
    while (at < r.to) {
      if (it == segments_.end() || it->first > at || it->second.to <= at) return kNobody;
      if (it->second.owner != owner) return it->second.owner;
      at = it->second.to;
      ++it;
    }
    return owner;
  }

 private:
  struct Segment {
    int64_t to;
    int owner;
  };

  void Split(int64_t at) {
    auto it = segments_.upper_bound(at);
    if (it == segments_.begin()) return;
    --it;
    if (it->first == at || it->second.to <= at) return;
    const Segment tail{it->second.to, it->second.owner};
    it->second.to = at;
    segments_.emplace(at, tail);
  }

  std::map<int64_t, Segment> segments_;
};

class Checker {
 public:
  Checker(const Graph& graph, const MemoryPlan& plan, const OpTraitsFn& traits)
      : graph_(graph), plan_(plan), traits_(traits) {}

  std::vector<std::string> Run() {
    if (!CheckShape()) return std::move(violations_);
    for (size_t s = 0; s < plan_.storages.size(); ++s) CheckStorage(static_cast<int>(s));
    for (ValueId v = 0; v < graph_.num_values(); ++v) {
      if (graph_.has_value(v)) CheckTensor(v);
    }
    if (!violations_.empty()) return std::move(violations_);  // addresses below would mean nothing
    CheckLifetimes();
    CheckContents();
    return std::move(violations_);
  }

 private:
  template <typename... Args>
  void Report(fmt::format_string<Args...> format, Args&&... args) {
    violations_.push_back(fmt::format(format, std::forward<Args>(args)...));
  }

  std::string NameOf(int storage) const {
    const Storage& s = plan_.storages[storage];
    if (s.value != kNoValue) return graph_.value(s.value).name;
    return s.node == ir::kNoNode ? fmt::format("storage {}", storage) : "scratch of " + NodeName(graph_.node(s.node));
  }

  std::string NodeName(const Node& node) const {
    const std::string result = node.results.empty() ? "" : graph_.value(node.results[0]).name + " = ";
    return fmt::format("{}{}{}", result, node.op, node.source.empty() ? "" : " at " + node.source);
  }

  std::string OwnerName(int owner) const {
    if (owner == Contents::kNobody) return "nothing written";
    if (owner == Contents::kScratch) return "scratch";
    return graph_.value(owner).name;
  }

  bool CheckShape() {
    const size_t nodes = graph_.num_node_ids();
    if (plan_.locations.size() != static_cast<size_t>(graph_.num_values()) || plan_.instruction_of.size() != nodes ||
        plan_.scratch_of.size() != nodes || plan_.output_after.size() != graph_.outputs.size()) {
      Report("the plan is of another graph: its tables have other lengths");
      return false;
    }
    size_t next = 0;
    for (ir::NodeId id : graph_.nodes()) {
      const int index = plan_.instruction_of[id];
      if (index < 0) {
        if (Acts(graph_.node(id))) Report("{} is left out", NodeName(graph_.node(id)));
        continue;
      }
      if (static_cast<size_t>(index) != next || next >= plan_.instructions.size() || plan_.instructions[next] != id) {
        Report("instruction {} is out of order: {}", index, NodeName(graph_.node(id)));
        return false;
      }
      ++next;
    }
    if (next != plan_.instructions.size()) Report("the plan has {} instructions, the graph {}", plan_.instructions.size(), next);
    return violations_.empty();
  }

  // Whether a node does anything but name bytes that are there already.
  bool Acts(const Node& node) const {
    bool makes = ir::IsEffectful(node.op);
    for (ValueId v : node.results) makes = makes || graph_.value(v).base == kNoValue;
    return makes;
  }

  void CheckStorage(int index) {
    const Storage& s = plan_.storages[index];
    if (IsPersistent(s.kind)) {
      if (s.offset != -1) Report("{} is persistent and has an offset in the arena", NameOf(index));
      return;
    }
    if (s.offset < 0 || s.offset % kAlignment != 0) Report("{} lies at offset {}, no multiple of {}", NameOf(index), s.offset, kAlignment);
    if (s.offset + s.bytes > plan_.arena_bytes) {
      Report("{} ends at byte {} of an arena of {}", NameOf(index), s.offset + s.bytes, plan_.arena_bytes);
    }
    const int count = static_cast<int>(plan_.instructions.size());
    if (s.first < 0 || s.last < s.first || s.last >= count) {
      Report("{} lives from instruction {} to {} of {}", NameOf(index), s.first, s.last, count);
    }
  }

  void CheckTensor(ValueId v) {
    const Value& value = graph_.value(v);
    const Location at = plan_.locations[v];
    if (at.storage < 0 || at.storage >= static_cast<int>(plan_.storages.size())) {
      Report("{} has no storage", value.name);
      return;
    }
    const int64_t end = at.byte_offset + Extent(value);
    if (at.byte_offset < 0 || end > plan_.storages[at.storage].bytes) {
      Report("{} ends at byte {} of a storage of {} ({})", value.name, end, plan_.storages[at.storage].bytes, NameOf(at.storage));
    }
    if (value.base == kNoValue) return;
    const Location base = plan_.locations[value.base];
    if (base.storage != at.storage || base.byte_offset + value.byte_offset != at.byte_offset) {
      Report("{} is a view of {} and does not lie in it", value.name, graph_.value(value.base).name);
    }
  }

  static int64_t Extent(const Value& value) {
    int64_t bytes = ir::ByteSize(value.dtype), reach = bytes;
    const bool dense = value.strides.size() != value.sizes.size();
    for (size_t d = 0; d < value.sizes.size(); ++d) {
      const int64_t size = value.sizes[d].value();
      if (size == 0) return 0;
      if (dense) {
        reach *= size;
      } else {
        reach += (size - 1) * value.strides[d].value() * bytes;
      }
    }
    return reach;
  }

  // Storages stated alive at one instruction, swept over time, in a map by offset.
  void CheckLifetimes() {
    std::vector<std::vector<int>> starts(plan_.instructions.size()), ends(plan_.instructions.size());
    for (size_t i = 0; i < plan_.storages.size(); ++i) {
      const Storage& s = plan_.storages[i];
      if (IsPersistent(s.kind) || s.bytes == 0) continue;
      starts[s.first].push_back(static_cast<int>(i));
      ends[s.last].push_back(static_cast<int>(i));
    }
    std::map<int64_t, int> alive;
    for (size_t t = 0; t < starts.size(); ++t) {
      for (int i : starts[t]) {
        const Storage& s = plan_.storages[i];
        const auto above = alive.lower_bound(s.offset);
        for (auto it : {above, above == alive.begin() ? alive.end() : std::prev(above)}) {
          if (it == alive.end()) continue;
          const Storage& o = plan_.storages[it->second];
          if (o.offset < s.offset + s.bytes && s.offset < o.offset + o.bytes) {
            Report("{} and {} overlap at instruction {}", NameOf(it->second), NameOf(i), t);
          }
        }
        alive.emplace(s.offset, i);
      }
      for (int i : ends[t]) {
        const auto it = alive.find(plan_.storages[i].offset);
        if (it != alive.end() && it->second == i) alive.erase(it);
      }
    }
  }

  bool InArena(ValueId v) const { return plan_.storages[plan_.locations[v].storage].offset >= 0; }

  Range RangeOf(ValueId v) const {
    const Location at = plan_.locations[v];
    const int64_t from = plan_.storages[at.storage].offset + at.byte_offset;
    return {from, from + Extent(graph_.value(v))};
  }

  // Owner of a value's bytes: what it is a view of, or itself.
  int OwnerOf(ValueId v) const {
    const ValueId base = graph_.value(v).base;
    return base == kNoValue ? v : base;
  }

  void CheckAlive(int storage, int index, const std::string& by) {
    const Storage& s = plan_.storages[storage];
    if (s.offset >= 0 && (index < s.first || index > s.last)) {
      Report("{} lives from instruction {} to {} and is used at {} by {}", NameOf(storage), s.first, s.last, index, by);
    }
  }

  void CheckContents() {
    std::map<int, std::vector<size_t>> outputs_after;
    for (size_t o = 0; o < graph_.outputs.size(); ++o) outputs_after[plan_.output_after[o]].push_back(o);
    for (size_t i = 0; i < plan_.instructions.size(); ++i) {
      const int index = static_cast<int>(i);
      CheckNode(graph_.node(plan_.instructions[i]), index);
      const auto captured = outputs_after.find(index);
      if (captured == outputs_after.end()) continue;
      for (size_t o : captured->second) {
        const ValueId v = graph_.outputs[o].value;
        if (v != kNoValue) CheckRead(v, index, "output " + graph_.outputs[o].name);
      }
    }
    for (const auto& [index, outputs] : outputs_after) {
      if (index >= 0 && index < static_cast<int>(plan_.instructions.size())) continue;
      for (size_t o : outputs) {
        const ValueId v = graph_.outputs[o].value;
        if (v != kNoValue && InArena(v)) Report("output {} is final at instruction {}, which is none", graph_.outputs[o].name, index);
      }
    }
  }

  void CheckRead(ValueId v, int index, const std::string& by) {
    if (!InArena(v)) return;
    CheckAlive(plan_.locations[v].storage, index, by);
    const int owner = OwnerOf(v);
    const int intruder = contents_.Intruder(RangeOf(v), owner);
    if (intruder != owner) {
      Report("{} reads {} at instruction {}, whose bytes hold {}", by, graph_.value(v).name, index, OwnerName(intruder));
    }
  }

  void CheckNode(const Node& node, int index) {
    const std::string by = NodeName(node);
    const std::vector<ValueId> operands = node.Operands();
    for (ValueId v : operands) CheckRead(v, index, by);
    // What the node writes anew: results with a storage of their own, then its scratch.
    std::vector<std::pair<Range, ValueId>> writes;
    for (ValueId v : node.results) {
      if (graph_.value(v).base != kNoValue || !InArena(v)) continue;
      CheckAlive(plan_.locations[v].storage, index, by);
      writes.emplace_back(RangeOf(v), v);
    }
    if (const int scratch = plan_.scratch_of[node.id]; scratch >= 0) {
      const Storage& s = plan_.storages[scratch];
      CheckAlive(scratch, index, by);
      writes.emplace_back(Range{s.offset, s.offset + s.bytes}, kNoValue);
    }
    const OpTraits traits = traits_ ? traits_(graph_, node) : OpTraits{};
    for (size_t a = 0; a < writes.size(); ++a) {
      for (size_t b = 0; b < a; ++b) {
        if (writes[a].first.Overlaps(writes[b].first)) Report("two results, or a result and scratch, of {} overlap", by);
      }
      for (ValueId o : operands) {
        if (!InArena(o) || !RangeOf(o).Overlaps(writes[a].first)) continue;
        if (!MayOverwrite(node, traits, o, writes[a].second)) {
          Report("{} writes over its operand {}", by, graph_.value(o).name);
        }
      }
    }
    for (const auto& [range, v] : writes) contents_.Write(range, v == kNoValue ? Contents::kScratch : v);
  }

  bool MayOverwrite(const Node& node, const OpTraits& traits, ValueId operand, ValueId result) const {
    if (!traits.in_place_ok || result == kNoValue) return false;
    if (traits.first_operand_only) {
      const std::vector<ValueId> all = node.Operands();
      const bool once = std::count(all.begin(), all.end(), operand) == 1;
      if (!once || !node.args[0].is_value() || node.args[0].value != operand) return false;
    }
    const Value& x = graph_.value(operand);
    const Value& y = graph_.value(result);
    return x.dtype == y.dtype && x.sizes == y.sizes && x.strides == y.strides && RangeOf(operand) == RangeOf(result);
  }

  const Graph& graph_;
  const MemoryPlan& plan_;
  const OpTraitsFn& traits_;
  Contents contents_;
  std::vector<std::string> violations_;
};

}  // namespace

std::vector<std::string> CheckPlan(const Graph& graph, const MemoryPlan& plan, const OpTraitsFn& traits) {
  return Checker(graph, plan, traits).Run();
}

}  // namespace autospc::memory
