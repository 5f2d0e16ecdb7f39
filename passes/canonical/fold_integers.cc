// fold-integers: an integer value that is affine in one index, however it is computed (cumsum of ones, diff, lookups,
// slices of a position buffer), becomes an arange seen as that shape. So no position depends on what lies on other
// ranks, and the prologue that computed it is dead.
#include <algorithm>

#include "passes/canonical/attention_operands.h"
#include "passes/canonical/interpret.h"
#include "passes/canonical/register.h"

namespace autospc::canonical {
namespace {

bool IsCreation(const Node& node) {
  static constexpr std::string_view kOps[] = {"aten.arange", "aten.full", "aten.zeros", "aten.ones",
                                              "aten.scalar_tensor"};
  return std::find(std::begin(kOps), std::end(kOps), BaseName(node.op)) != std::end(kOps);
}

class Folder {
 public:
  Folder(Graph& graph, PassContext& context)
      : graph_(graph), constants_(graph, context.constants), interpreter_(graph, constants_, {}) {}

  bool Run() {
    Substitution substitution;
    const std::vector<NodeId> nodes(graph_.nodes().begin(), graph_.nodes().end());
    std::vector<bool> plain(graph_.num_values(), false);  // aranges, fills and views of them, of the graph as it was
    for (const NodeId id : nodes) {
      const Node& node = graph_.node(id);
      if (node.results.size() != 1) continue;
      const Value& v = graph_.value(node.results[0]);
      if ((v.dtype != DType::kInt64 && v.dtype != DType::kInt32) || v.numel() < 2) continue;
      Index index;
      for (const ir::Expr& size : v.sizes) {
        index.push_back(size.value() == 1 ? Linear(0) : Linear::Of(interpreter_.atoms().NewIndex(size.value())));
      }
      const ValueId x = ValueAt(node, 0);
      const bool is_view = x != kNoValue && MapViewIndex(graph_, node, v, index, interpreter_.atoms()).has_value();
      if (IsCreation(node) || (is_view && plain[x])) {
        plain[v.id] = true;
        continue;
      }
      const ValueId folded = Fold(id, index);
      if (folded == kNoValue) continue;
      plain[node.results[0]] = true;
      substitution.Map(node.results[0], folded);
    }
    if (substitution.empty()) return false;
    substitution.Apply(graph_);
    graph_.EliminateDeadCode();
    return true;
  }

 private:
  // The arange that the node's value is, or kNoValue.
  ValueId Fold(NodeId id, const Index& index) {
    const Node node = graph_.node(id);
    const Value v = graph_.value(node.results[0]);
    const Element e = interpreter_.At(v.id, index);
    if (e.kind != Element::Kind::kLinear || e.linear.terms.size() > 1) return kNoValue;
    const std::vector<int64_t> sizes = v.int_sizes();
    const auto emit = [&](const char* op, std::vector<Arg> args, std::vector<ir::Expr> to) {
      return graph_.Emit(op, std::move(args), v.dtype, std::move(to), id, &node);
    };
    if (e.linear.is_const()) {
      return emit("aten.full.default",
                  {Arg::Ints(sizes), Arg::Int(e.linear.constant), Arg::Type(v.dtype), Arg::None(), Arg::Device("cpu"),
                   Arg::None()},
                  v.sizes);
    }
    const auto [atom, step] = *e.linear.terms.begin();
    int dim = -1;
    for (int d = 0; d < v.rank(); ++d) {
      if (index[d].AsAtom() == atom) dim = d;
    }
    if (dim < 0) return kNoValue;
    const int64_t length = sizes[dim], start = e.linear.constant;
    const ValueId line = emit("aten.arange.start_step",
                              {Arg::Int(start), Arg::Int(start + step * length), Arg::Int(step), Arg::Type(v.dtype),
                               Arg::None(), Arg::Device("cpu"), Arg::None()},
                              {ir::Expr(length)});
    std::vector<int64_t> thin(sizes.size(), 1);
    thin[dim] = length;
    return EmitExpand(graph_, EmitReshape(graph_, line, thin, id, node), sizes, id, node);
  }

  Graph& graph_;
  Constants constants_;
  Interpreter interpreter_;
};

}  // namespace

Result<bool> FoldIntegers(ir::Graph& graph, PassContext& context) { return Folder(graph, context).Run(); }

}  // namespace autospc::canonical
