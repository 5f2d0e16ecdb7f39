#include "passes/tile/widen.h"

#include <set>
#include <string>
#include <vector>

#include "passes/tile/sums.h"

namespace autospc::tile {
namespace {

using ir::Arg;
using ir::DType;
using ir::Graph;
using ir::kNoNode;
using ir::kNoValue;
using ir::Node;
using ir::NodeId;
using ir::Value;
using ir::ValueId;

constexpr int kLeastAddends = 3;  // the sum of two is rounded once as it is

bool IsNarrow(const Value& v) { return v.dtype == DType::kBFloat16 || v.dtype == DType::kFloat16; }

class Widener {
 public:
  explicit Widener(Graph& graph) : graph_(graph), uses_(CountUses(graph)), position_(graph.num_node_ids(), 0) {
    int position = 0;
    for (const NodeId id : graph.nodes()) position_[id] = position++;
  }

  int Run() {
    std::set<ValueId> roots;
    for (const ir::GraphOutput& out : graph_.outputs) {
      if (out.kind != ir::OutputKind::kGradient) continue;
      const ValueId root = SumOf(out.value);
      if (root != kNoValue) roots.insert(root);
    }
    int widened = 0;
    for (const ValueId root : roots) {
      if (Addends(root) < kLeastAddends) continue;
      Widen(root);
      ++widened;
    }
    if (widened > 0) graph_.EliminateDeadCode();
    return widened;
  }

 private:
  // The sum that a gradient is, through views and its reduction over ranks; kNoValue: none of 16 bits.
  ValueId SumOf(ValueId v) const {
    for (const Node* node = graph_.producer(v = Root(graph_, v)); node != nullptr;
         node = graph_.producer(v = Root(graph_, node->args[0].value))) {
      if (IsInner(v)) return v;
      if (node->op != "autosp.all_reduce") break;
    }
    return kNoValue;
  }

  // A sum of 16 bits with one storage of its own.
  bool IsInner(ValueId v) const {
    const Node* node = graph_.producer(v);
    return node != nullptr && node->phase == ir::Phase::kBackward && IsSum(*node) && IsNarrow(graph_.value(v)) &&
           graph_.value(v).base == kNoValue;
  }

  // Operand `i` of a sum as another sum that only serves this one; else kNoValue.
  ValueId Inner(const Node& sum, size_t i) const {
    const ValueId v = Whole(graph_, sum.args[i].value);
    return IsInner(v) && uses_[v] == 1 && SameGeometry(graph_.value(v), graph_.value(sum.results[0])) ? v : kNoValue;
  }

  int Addends(ValueId sum) const {
    int addends = 0;
    const Node& node = *graph_.producer(sum);
    for (const size_t i : {0, 1}) {
      const ValueId inner = Inner(node, i);
      addends += inner == kNoValue ? 1 : Addends(inner);
    }
    return addends;
  }

  // A product that is read by this sum alone and laid out as it.
  const Node* Product(const Node& sum, size_t i) const {
    const ValueId v = Whole(graph_, sum.args[i].value);
    const Node* mm = graph_.producer(v);
    if (mm == nullptr || mm->op != "aten.mm.default" || uses_[v] != 1) return nullptr;
    return SameGeometry(graph_.value(v), graph_.value(sum.results[0])) ? mm : nullptr;
  }

  // The whole sum in float32, cast where it was finished.
  void Widen(ValueId root) {
    const ValueId wide = WideSum(root);
    const NodeId old = graph_.value(root).producer;
    Node& node = graph_.node(old);  // becomes the cast
    node.op = "aten._to_copy.default";
    node.args = {Arg::Value(wide), Arg::Type(graph_.value(root).dtype), Arg::None(), Arg::None(), Arg::None(),
                 Arg::Bool(false), Arg::None()};
  }

  // A float32 value of the sum `v`, made where `v` is made.
  ValueId WideSum(ValueId v) {
    const NodeId id = graph_.value(v).producer;
    const Node sum = graph_.node(id);  // a copy: new nodes make the vector grow
    ValueId wide[2];
    for (const size_t i : {0, 1}) {
      const ValueId inner = Inner(sum, i);
      wide[i] = inner == kNoValue ? kNoValue : WideSum(inner);
    }
    const Node* products[2] = {Product(sum, 0), Product(sum, 1)};
    if (wide[0] != kNoValue && wide[1] != kNoValue) {
      return Emit("aten.add.Tensor", {Arg::Value(wide[0]), Arg::Value(wide[1]), Arg::Int(1)}, v, id, sum);
    }
    // What is begun already goes on; else the earlier of two products begins, and a product rather than another addend.
    const bool earlier = products[1] != nullptr && (products[0] == nullptr || position_[products[1]->id] < position_[products[0]->id]);
    const size_t begun = wide[1] != kNoValue || (wide[0] == kNoValue && earlier) ? 1 : 0;
    const size_t other = 1 - begun;
    if (wide[begun] == kNoValue) wide[begun] = Begin(sum, begun, products[begun], v, id);
    if (products[other] != nullptr) {
      const Node mm = *products[other];
      return Emit("aten.addmm.dtype", {Arg::Value(wide[begun]), mm.args[0], mm.args[1], Arg::Type(DType::kFloat32), Arg::Int(1), Arg::Int(1)},
                  v, id, sum);
    }
    return Emit("aten.add.Tensor", {Arg::Value(wide[begun]), sum.args[other], Arg::Int(1)}, v, id, sum);
  }

  // The first addend in float32: the product itself, where it stood, or a wider copy.
  ValueId Begin(const Node& sum, size_t i, const Node* product, ValueId like, NodeId before) {
    if (product != nullptr) {
      const Node mm = *product;
      return Emit("aten.mm.dtype", {mm.args[0], mm.args[1], Arg::Type(DType::kFloat32)}, like, mm.id, mm);
    }
    return Emit("aten._to_copy.default",
                {sum.args[i], Arg::Type(DType::kFloat32), Arg::None(), Arg::None(), Arg::None(), Arg::Bool(false), Arg::None()},
                like, before, sum);
  }

  ValueId Emit(const char* op, std::vector<Arg> args, ValueId like, NodeId before, const Node& from) {
    const Value shape = graph_.value(like);
    const ValueId v = graph_.AddValue(shape.name + "_f32", DType::kFloat32, shape.sizes, shape.strides);
    graph_.value(v).placement = shape.placement;
    graph_.value(v).dp_placement = shape.dp_placement;
    Node& node = graph_.node(graph_.AddNode(op, std::move(args), {v}, before));
    node.phase = ir::Phase::kBackward;
    node.source = from.source;
    node.module = from.module;
    return v;
  }

  Graph& graph_;
  const std::vector<int> uses_;  // by value that owns its storage
  std::vector<int> position_;    // by node, before anything was added
};

}  // namespace

int WidenGradientSums(Graph& graph) { return Widener(graph).Run(); }

}  // namespace autospc::tile
