// What canonical passes ask of nodes: arguments by position, operands, shapes. All sizes are bound here.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "passes/ir/graph.h"
#include "runtime/base/result.h"

namespace autospc::canonical {

using ir::Arg;
using ir::DType;
using ir::Graph;
using ir::kNoNode;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::Value;
using ir::ValueId;
using ir::WrapDim;

// "aten.add.Tensor" -> "aten.add": the op without its overload.
std::string_view BaseName(std::string_view op);
inline bool Is(const Node& node, std::string_view base) { return BaseName(node.op) == base; }
// v's producer if it is an `base` op, else null.
const Node* ProducerIs(const Graph& graph, ValueId v, std::string_view base);

// Arguments by position; the fallback where the argument is absent or None.
const Arg* ArgAt(const Node& node, size_t i);  // null if absent or None
ValueId ValueAt(const Node& node, size_t i);   // kNoValue unless a tensor
std::optional<int64_t> IntAt(const Node& node, size_t i);
int64_t IntAt(const Node& node, size_t i, int64_t fallback);
std::optional<double> NumberAt(const Node& node, size_t i);
bool BoolAt(const Node& node, size_t i, bool fallback);
std::vector<int64_t> IntsAt(const Node& node, size_t i);  // empty if absent

// Start and length of a slice as aten.slice.Tensor clamps them.
struct SliceRange {
  int64_t start = 0, length = 0, step = 1;
};
SliceRange ResolveSlice(int64_t size, std::optional<int64_t> start, std::optional<int64_t> end, int64_t step);

bool IsContiguous(const Value& v);    // by recorded strides; false where none are recorded
std::string Where(const Node& node);  // "aten.add_.Tensor (model.py:12, layers.0)" for errors
Error Unsupported(const Node& node, std::string what, std::string hint);

// Substitutions collected in one sweep over the nodes in order, instead of one sweep for each.
class Substitution {
 public:
  void Map(ValueId from, ValueId to) { map_[from] = Resolve(to); }
  ValueId Resolve(ValueId v) const;
  void Apply(Node& node) const;
  void Apply(Graph& graph) const;  // every node and output
  bool empty() const { return map_.empty(); }

 private:
  std::map<ValueId, ValueId> map_;
};

// Values that a gradient can reach: floating point, computed from a parameter that requires one.
// Indexed by value id.
std::vector<bool> Differentiable(const Graph& graph);

}  // namespace autospc::canonical
