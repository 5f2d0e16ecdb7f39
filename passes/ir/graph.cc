#include "passes/ir/graph.h"

#include <algorithm>
#include <cassert>

namespace autospc::ir {

Arg Arg::Value(ValueId v) { Arg a; a.kind = Kind::kValue; a.value = v; return a; }
Arg Arg::Values(std::vector<ValueId> vs) { Arg a; a.kind = Kind::kValueList; a.values = std::move(vs); return a; }
Arg Arg::Int(Expr v) { Arg a; a.kind = Kind::kInt; a.i = std::move(v); return a; }
Arg Arg::Ints(std::vector<Expr> v) { Arg a; a.kind = Kind::kIntList; a.ints = std::move(v); return a; }
Arg Arg::Ints(const std::vector<int64_t>& v) { return Ints(std::vector<Expr>(v.begin(), v.end())); }
Arg Arg::Float(double v) { Arg a; a.kind = Kind::kFloat; a.f = v; return a; }
Arg Arg::Floats(std::vector<double> v) { Arg a; a.kind = Kind::kFloatList; a.floats = std::move(v); return a; }
Arg Arg::Bool(bool v) { Arg a; a.kind = Kind::kBool; a.b = v; return a; }
Arg Arg::Bools(std::vector<bool> v) { Arg a; a.kind = Kind::kBoolList; a.bools = std::move(v); return a; }
Arg Arg::String(std::string v) { Arg a; a.kind = Kind::kString; a.s = std::move(v); return a; }
Arg Arg::Type(DType v) { Arg a; a.kind = Kind::kDType; a.dtype = v; return a; }
Arg Arg::Layout(std::string v) { Arg a; a.kind = Kind::kLayout; a.s = std::move(v); return a; }
Arg Arg::Device(std::string v) { Arg a; a.kind = Kind::kDevice; a.s = std::move(v); return a; }
Arg Arg::MemoryFormat(std::string v) { Arg a; a.kind = Kind::kMemoryFormat; a.s = std::move(v); return a; }

namespace {
std::vector<int64_t> Constants(const std::vector<Expr>& exprs) {
  std::vector<int64_t> values;
  values.reserve(exprs.size());
  for (const Expr& e : exprs) {
    assert(e.is_const());
    values.push_back(e.value());
  }
  return values;
}
}  // namespace

std::vector<int64_t> Arg::int_values() const { return Constants(ints); }

double Arg::number() const {
  return kind == Kind::kFloat ? f : kind == Kind::kBool ? static_cast<double>(b) : static_cast<double>(i.value());
}

bool Arg::operator==(const Arg& o) const {
  if (kind != o.kind) return false;
  switch (kind) {
    case Kind::kNone: return true;
    case Kind::kValue: return value == o.value;
    case Kind::kValueList: return values == o.values;
    case Kind::kInt: return i == o.i;
    case Kind::kIntList: return ints == o.ints;
    case Kind::kFloat: return f == o.f || (f != f && o.f != o.f);
    case Kind::kFloatList: return floats == o.floats;
    case Kind::kBool: return b == o.b;
    case Kind::kBoolList: return bools == o.bools;
    case Kind::kDType: return dtype == o.dtype;
    case Kind::kString: case Kind::kLayout: case Kind::kDevice: case Kind::kMemoryFormat: return s == o.s;
  }
  return false;
}

std::vector<int64_t> Value::int_sizes() const { return Constants(sizes); }
std::vector<int64_t> Value::int_strides() const { return Constants(strides); }

int64_t Value::numel() const {
  int64_t n = 1;
  for (const Expr& e : sizes) n *= e.value();
  return n;
}

std::vector<ValueId> Node::Operands() const {
  std::vector<ValueId> all;
  for (const Arg& a : args) {
    if (a.kind == Arg::Kind::kValue) all.push_back(a.value);
    for (ValueId v : a.values) {
      if (a.kind == Arg::Kind::kValueList && v != kNoValue) all.push_back(v);
    }
  }
  return all;
}

Graph::Graph(const Graph& other) { *this = other; }

Graph& Graph::operator=(const Graph& other) {
  if (this == &other) return *this;
  name = other.name;
  symbols = other.symbols;
  inputs = other.inputs;
  outputs = other.outputs;
  by_name_ = other.by_name_;
  next_suffix_ = other.next_suffix_;
  order_ = other.order_;
  values_.clear();
  for (const auto& v : other.values_) values_.push_back(v ? std::make_unique<Value>(*v) : nullptr);
  nodes_.clear();
  for (const auto& n : other.nodes_) nodes_.push_back(n ? std::make_unique<Node>(*n) : nullptr);
  where_.assign(nodes_.size(), order_.end());
  for (auto it = order_.begin(); it != order_.end(); ++it) where_[*it] = it;
  return *this;
}

ValueId Graph::AddValue(std::string_view wish, DType dtype, std::vector<Expr> sizes, std::vector<Expr> strides) {
  std::string unique(wish.empty() ? "v" : wish);
  if (by_name_.contains(unique)) {
    int& suffix = next_suffix_[unique];
    std::string candidate;
    do {
      candidate = fmt::format("{}_{}", unique, ++suffix);
    } while (by_name_.contains(candidate));
    unique = std::move(candidate);
  }
  const ValueId id = num_values();
  by_name_.emplace(unique, id);
  auto v = std::make_unique<Value>();
  v->id = id;
  v->name = std::move(unique);
  v->dtype = dtype;
  v->sizes = std::move(sizes);
  v->strides = std::move(strides);
  values_.push_back(std::move(v));
  return id;
}

ValueId Graph::FindValue(std::string_view wanted) const {
  const auto it = by_name_.find(wanted);
  return it == by_name_.end() ? kNoValue : it->second;
}

ValueId Graph::AddInput(GraphInput input, std::string_view value_name, DType dtype, std::vector<Expr> sizes,
                        std::vector<Expr> strides) {
  input.value = AddValue(value_name, dtype, std::move(sizes), std::move(strides));
  inputs.push_back(std::move(input));
  return inputs.back().value;
}

const GraphInput* Graph::FindInput(ValueId v) const {
  if (value(v).producer != kNoNode) return nullptr;
  const auto it = std::find_if(inputs.begin(), inputs.end(), [&](const GraphInput& in) { return in.value == v; });
  return it == inputs.end() ? nullptr : &*it;
}

NodeId Graph::AddNode(std::string op, std::vector<Arg> args, std::vector<ValueId> results, NodeId before) {
  const NodeId id = static_cast<NodeId>(nodes_.size());
  auto n = std::make_unique<Node>();
  n->id = id;
  n->op = std::move(op);
  n->args = std::move(args);
  n->results = std::move(results);
  for (size_t i = 0; i < n->results.size(); ++i) {
    Value& v = value(n->results[i]);
    v.producer = id;
    v.result_index = static_cast<int>(i);
  }
  nodes_.push_back(std::move(n));
  where_.push_back(order_.insert(before == kNoNode ? order_.end() : where_[before], id));
  return id;
}

ValueId Graph::Emit(std::string op, std::vector<Arg> args, DType dtype, std::vector<Expr> sizes, NodeId before,
                    const Node* like) {
  const ValueId v = AddValue(ShortName(op), dtype, std::move(sizes));
  const std::string source = like ? like->source : "", module = like ? like->module : "";
  const Phase phase = like ? like->phase : Phase::kForward;
  Node& n = node(AddNode(std::move(op), std::move(args), {v}, before));
  n.source = source;
  n.module = module;
  n.phase = phase;
  return v;
}

void Graph::MoveBefore(NodeId id, NodeId before) {
  order_.splice(before == kNoNode ? order_.end() : where_[before], order_, where_[id]);
}

void Graph::EraseNode(NodeId id) {
  for (ValueId v : node(id).results) {
    by_name_.erase(value(v).name);
    values_[v].reset();
  }
  order_.erase(where_[id]);
  where_[id] = order_.end();
  nodes_[id].reset();
}

void Graph::EraseInput(ValueId v) {
  std::erase_if(inputs, [&](const GraphInput& in) { return in.value == v; });
  by_name_.erase(value(v).name);
  values_[v].reset();
}

std::vector<NodeId> Graph::Users(ValueId v) const {
  std::vector<NodeId> users;
  for (NodeId id : order_) {
    const std::vector<ValueId> operands = node(id).Operands();
    if (std::find(operands.begin(), operands.end(), v) != operands.end()) users.push_back(id);
  }
  return users;
}

std::map<ValueId, std::vector<NodeId>> Graph::AllUsers() const {
  std::map<ValueId, std::vector<NodeId>> users;
  for (NodeId id : order_) {
    for (ValueId v : node(id).Operands()) {
      std::vector<NodeId>& list = users[v];
      if (list.empty() || list.back() != id) list.push_back(id);
    }
  }
  return users;
}

std::set<ValueId> Graph::ReadValues() const {
  std::set<ValueId> read;
  for (NodeId id : order_) {
    for (ValueId v : node(id).Operands()) read.insert(v);
  }
  for (const GraphOutput& out : outputs) read.insert(out.value);
  return read;
}

void Graph::ReplaceUses(ValueId from, ValueId to) {
  for (NodeId id : order_) {
    for (Arg& a : node(id).args) {
      if (a.kind == Arg::Kind::kValue && a.value == from) a.value = to;
      if (a.kind == Arg::Kind::kValueList) std::replace(a.values.begin(), a.values.end(), from, to);
    }
  }
  for (GraphOutput& out : outputs) {
    if (out.value == from) out.value = to;
  }
}

int Graph::EliminateDeadCode() {
  std::vector<int> uses(values_.size(), 0);
  for (const GraphOutput& out : outputs) ++uses[out.value];
  for (NodeId id : order_) {
    for (ValueId v : node(id).Operands()) ++uses[v];
  }
  int erased = 0;
  for (auto it = order_.end(); it != order_.begin();) {
    const NodeId id = *--it;
    const Node& n = node(id);
    const bool used = std::any_of(n.results.begin(), n.results.end(), [&](ValueId v) { return uses[v] > 0; });
    if (used || IsEffectful(n.op)) continue;
    for (ValueId v : n.Operands()) --uses[v];
    ++it;
    EraseNode(id);
    ++erased;
  }
  return erased;
}

std::string_view ShortName(std::string_view op) {
  const size_t first = op.find('.');
  if (first == std::string_view::npos) return op;
  if (!op.starts_with("aten.") && !op.starts_with("autosp.")) return op.substr(0, op.find('.', first + 1));
  op.remove_prefix(first + 1);
  return op.substr(0, op.find('.'));
}

bool IsEffectful(std::string_view op) {
  const std::string_view name = ShortName(op);
  // In-place ops end in one underscore; "__and__" and its like do not write.
  return name.ends_with('_') && !name.ends_with("__");
}

Axis AxisOf(const Node& node) {
  const std::optional<size_t> at = AxisArgument(node.op);
  if (!at || node.args.size() <= *at) return UsualAxis(node.op);
  return ParseAxis(node.args[*at].s).value_or(Axis::kSp);
}

int WrapDim(int64_t dim, int rank) { return static_cast<int>(dim < 0 ? dim + std::max(rank, 1) : dim); }

std::string Where(const Graph& graph, const Node& node) {
  std::string text = node.results.empty() ? node.op : fmt::format("%{} ({})", graph.value(node.results[0]).name, node.op);
  if (!node.source.empty()) text += ", " + node.source;
  if (!node.module.empty()) text += ", in " + node.module;
  return text;
}

}  // namespace autospc::ir
