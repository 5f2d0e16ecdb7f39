// A small SSA graph: the one representation from import to code generation.
//
// The graph owns nodes and values. Ids are stable: they are never reused, and erased ones leave a hole.
// Order of execution is the order of `nodes()`. Nothing here iterates an unordered container.
#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "passes/ir/placement.h"
#include "passes/ir/types.h"
#include "runtime/base/mesh.h"

namespace autospc::ir {

using ValueId = int32_t;
using NodeId = int32_t;
inline constexpr ValueId kNoValue = -1;
inline constexpr NodeId kNoNode = -1;

// One argument of a node. Arguments stand in the order of the op's LibTorch schema, all of them,
// defaults filled in. A Scalar argument is kInt, kFloat or kBool. A number in a Tensor position
// (`aten.add.Tensor(x, 1e-06)`) is kInt/kFloat/kBool there too: a wrapped number.
struct Arg {
  enum class Kind : uint8_t {
    kNone, kValue, kValueList, kInt, kIntList, kFloat, kFloatList, kBool, kBoolList, kString, kDType,
    kLayout, kDevice, kMemoryFormat,
  };
  Kind kind = Kind::kNone;
  ValueId value = kNoValue;
  std::vector<ValueId> values;  // kValueList; kNoValue where the list holds None
  Expr i;
  std::vector<Expr> ints;
  double f = 0;
  std::vector<double> floats;
  bool b = false;
  std::vector<bool> bools;
  std::string s;  // kString; kLayout ("strided"), kDevice ("cpu", "cuda:0"), kMemoryFormat ("contiguous", "preserve")
  DType dtype = DType::kFloat32;

  static Arg None() { return {}; }
  static Arg Value(ValueId v);
  static Arg Values(std::vector<ValueId> vs);
  static Arg Int(Expr v);
  static Arg Ints(std::vector<Expr> v);
  static Arg Ints(const std::vector<int64_t>& v);
  static Arg Float(double v);
  static Arg Floats(std::vector<double> v);
  static Arg Bool(bool v);
  static Arg Bools(std::vector<bool> v);
  static Arg String(std::string v);
  static Arg Type(DType v);
  static Arg Layout(std::string v);
  static Arg Device(std::string v);
  static Arg MemoryFormat(std::string v);

  bool is_none() const { return kind == Kind::kNone; }
  bool is_value() const { return kind == Kind::kValue; }
  bool is_number() const { return kind == Kind::kInt || kind == Kind::kFloat || kind == Kind::kBool; }
  int64_t int_value() const { return i.value(); }         // of a bound kInt
  std::vector<int64_t> int_values() const;                // of a bound kIntList
  double number() const;                                  // of kInt, kFloat, kBool
  bool operator==(const Arg& other) const;
};

// A value: a tensor. `strides` may be empty before differentiation: then nothing is promised.
struct Value {
  ValueId id = kNoValue;
  std::string name;  // unique in the graph, [A-Za-z0-9_.]+
  DType dtype = DType::kFloat32;
  std::vector<Expr> sizes;
  std::vector<Expr> strides;  // in elements
  Placement placement;     // along the mesh's axis sp
  Placement dp_placement;  // along dp; none where the batch is not split
  NodeId producer = kNoNode;  // kNoNode: a graph input
  int result_index = 0;
  // After differentiation: the value whose storage this one shares (a view), kNoValue: it has its own.
  // Never a chain: `base` itself has its own storage.
  ValueId base = kNoValue;
  int64_t byte_offset = 0;  // of the first element, from the start of the storage

  const Placement& placement_on(Axis axis) const { return axis == Axis::kDp ? dp_placement : placement; }
  int rank() const { return static_cast<int>(sizes.size()); }
  std::vector<int64_t> int_sizes() const;    // bound sizes
  std::vector<int64_t> int_strides() const;
  int64_t numel() const;                     // of bound sizes
  int64_t bytes() const { return numel() * ByteSize(dtype); }
};

enum class Phase : uint8_t { kForward, kBackward, kStep };

struct Node {
  NodeId id = kNoNode;
  std::string op;  // "aten.add.Tensor", "aten.view.default", "autosp.attention"
  std::vector<Arg> args;
  std::vector<ValueId> results;  // a Tensor[] result (split, chunk, unbind) is flattened
  std::string source;            // "modeling_llama.py:377", innermost frame of the model's own code
  std::string module;            // "model.layers.0.self_attn"
  Phase phase = Phase::kForward;

  // Every value used, in order, with repetitions; kNoValue never.
  std::vector<ValueId> Operands() const;
};

enum class InputKind : uint8_t { kParameter, kBuffer, kConstant, kUser, kState };

struct GraphInput {
  ValueId value = kNoValue;
  InputKind kind = InputKind::kUser;
  std::string name;            // the checkpoint's name ("model.embed_tokens.weight"), or the user's ("input_ids")
  bool requires_grad = false;  // parameters: as in the file
  bool persistent = true;      // buffers: in the state dict
  std::string alias_of;        // another input's name whose storage this one shares whole (a tied weight), else ""
  int seq_dim = -1;            // user inputs: the dim that is the sequence; set when sizes are bound
  int batch_dim = -1;          // and the dim that is the batch
};

enum class OutputKind : uint8_t { kLoss, kUser, kGradient, kBufferUpdate, kParameterUpdate, kStateUpdate };

struct GraphOutput {
  ValueId value = kNoValue;
  OutputKind kind = OutputKind::kUser;
  std::string name;  // the loss' name in the export; the parameter's, buffer's or state's for the others
};

// Bounds of a size symbol, inclusive; max < 0: none.
struct SymbolRange {
  int64_t min = 0;
  int64_t max = -1;
};

class Graph {
 public:
  std::string name = "graph";
  std::map<std::string, SymbolRange> symbols;
  std::vector<GraphInput> inputs;
  std::vector<GraphOutput> outputs;

  Graph() = default;
  Graph(const Graph& other);  // deep; ids and order stay
  Graph& operator=(const Graph& other);
  Graph(Graph&&) = default;
  Graph& operator=(Graph&&) = default;

  // Values. `name` is a wish: made unique by a suffix "_1", "_2", …
  ValueId AddValue(std::string_view name, DType dtype, std::vector<Expr> sizes, std::vector<Expr> strides = {});
  Value& value(ValueId id) { return *values_[id]; }
  const Value& value(ValueId id) const { return *values_[id]; }
  bool has_value(ValueId id) const { return id >= 0 && id < num_values() && values_[id] != nullptr; }
  ValueId FindValue(std::string_view name) const;  // kNoValue if there is none
  int num_values() const { return static_cast<int>(values_.size()); }  // ids are below it
  ValueId AddInput(GraphInput input, std::string_view value_name, DType dtype, std::vector<Expr> sizes,
                   std::vector<Expr> strides = {});
  const GraphInput* FindInput(ValueId value) const;

  // Nodes, in order of execution.
  const std::list<NodeId>& nodes() const { return order_; }
  Node& node(NodeId id) { return *nodes_[id]; }
  const Node& node(NodeId id) const { return *nodes_[id]; }
  bool has_node(NodeId id) const { return id >= 0 && id < static_cast<int>(nodes_.size()) && nodes_[id] != nullptr; }
  int num_node_ids() const { return static_cast<int>(nodes_.size()); }
  const Node* producer(ValueId v) const { return value(v).producer == kNoNode ? nullptr : nodes_[value(v).producer].get(); }

  // A new node before `before` (kNoNode: at the end). `results` are values without producer.
  NodeId AddNode(std::string op, std::vector<Arg> args, std::vector<ValueId> results, NodeId before = kNoNode);
  // The usual case: one result, its name made from the op's. Source and module are those of `like` if given.
  ValueId Emit(std::string op, std::vector<Arg> args, DType dtype, std::vector<Expr> sizes, NodeId before = kNoNode,
               const Node* like = nullptr);
  void MoveBefore(NodeId id, NodeId before);  // kNoNode: to the end
  void EraseNode(NodeId id);                  // its results must have no use; they are erased too
  void EraseInput(ValueId value);             // must have no use

  // Uses. Users lists each node once, in order of execution.
  std::vector<NodeId> Users(ValueId v) const;
  std::map<ValueId, std::vector<NodeId>> AllUsers() const;  // one sweep, for passes that ask for many
  std::set<ValueId> ReadValues() const;  // by a node or an output
  void ReplaceUses(ValueId from, ValueId to);  // in nodes and outputs
  // Erases nodes of which no result is used; returns how many. Ops that write (see IsEffectful) stay.
  int EliminateDeadCode();

 private:
  std::vector<std::unique_ptr<Value>> values_;
  std::vector<std::unique_ptr<Node>> nodes_;
  std::list<NodeId> order_;
  std::vector<std::list<NodeId>::iterator> where_;  // by node id
  std::map<std::string, ValueId, std::less<>> by_name_;
  std::map<std::string, int> next_suffix_;
};

// "aten.add.Tensor" -> "add", likewise "autosp."; of an op of another namespace "mylib.softmax", so that no rule is taken for it
// that belongs to ATen's op of that name.
std::string_view ShortName(std::string_view op);
// Ops that write to an operand and must not be removed ("aten.add_.Tensor", "autosp.adamw_").
bool IsEffectful(std::string_view op);
// The mesh axis along which a node acts: its axis argument, else the op's usual one.
Axis AxisOf(const Node& node);
// Negative dims count from the end; a scalar counts as of rank 1.
int WrapDim(int64_t dim, int rank);
// "%add (aten.add.Tensor), gpt.py:12, in h.0": for Error::where.
std::string Where(const Graph& graph, const Node& node);

}  // namespace autospc::ir
