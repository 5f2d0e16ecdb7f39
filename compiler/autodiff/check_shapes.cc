#include "compiler/autodiff/check_shapes.h"

#include <ATen/core/grad_mode.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "compiler/autodiff/bridge.h"
#include "compiler/autodiff/ops.h"

namespace autospc::autodiff {
namespace {

constexpr int64_t kMostBytes = 64 << 20;  // asked of a kernel: differentiation asks again, and a file may say any size

bool IsBound(const std::vector<ir::Expr>& exprs) {
  return std::all_of(exprs.begin(), exprs.end(), [](const ir::Expr& e) { return e.is_const(); });
}

bool IsBound(const ir::Graph& graph, const ir::Node& node) {
  const auto bound = [&](ir::ValueId v) { return IsBound(graph.value(v).sizes) && IsBound(graph.value(v).strides); };
  const std::vector<ir::ValueId> operands = node.Operands();
  return std::all_of(operands.begin(), operands.end(), bound) &&
         std::all_of(node.results.begin(), node.results.end(), bound) &&
         std::all_of(node.args.begin(), node.args.end(),
                     [](const ir::Arg& a) { return a.i.is_const() && IsBound(a.ints); });
}

Error At(const ir::Graph& graph, const ir::Node& node, std::string what) {
  return Error{Code::kBadInput, fmt::format("{}: {}", node.op, what), ir::Where(graph, node), "export the model again"};
}

Status CheckNode(const ir::Graph& graph, const ir::Node& node, const std::set<ir::ValueId>& used, Refused refused) {
  const auto op = FindOp(node.op);
  if (!op.ok()) return Ok();  // differentiation refuses it
  auto stack = ToStack(graph, node, op->schema(), [&](ir::ValueId v) { return MetaTensor(graph.value(v)); });
  if (!stack.ok()) return refused == Refused::kPassedOver ? Ok() : Status(At(graph, node, stack.error().what));
  try {
    op->callBoxed(&*stack);
  } catch (const std::exception& e) {
    if (refused == Refused::kPassedOver || dynamic_cast<const c10::NotImplementedError*>(&e) != nullptr) return Ok();
    const auto* of_libtorch = dynamic_cast<const c10::Error*>(&e);
    const std::string text = of_libtorch != nullptr ? of_libtorch->what_without_backtrace() : e.what();
    return At(graph, node, text.substr(0, text.find('\n')));
  }
  const std::vector<at::Tensor> made = FlattenResults(*stack);
  if (node.results.empty() && ir::IsEffectful(node.op)) return Ok();
  if (made.size() != node.results.size())
    return At(graph, node,
              fmt::format("LibTorch makes {} results, the graph has {}", made.size(), node.results.size()));
  for (size_t i = 0; i < made.size(); ++i) {
    const std::vector<int64_t> recorded = graph.value(node.results[i]).int_sizes();
    if (!made[i].defined() || made[i].sizes() == at::IntArrayRef(recorded) || !used.contains(node.results[i])) continue;
    return At(graph, node,
              fmt::format("LibTorch makes [{}], the graph says [{}]", fmt::join(made[i].sizes(), ", "),
                          fmt::join(recorded, ", ")));
  }
  return Ok();
}

}  // namespace

Status CheckShapes(const ir::Graph& graph, Refused refused) {
  RegisterOps();
  const at::NoGradGuard no_grad;
  const ShapesWithin limit(kMostBytes);
  // What nobody reads may be of another backend's making: the last states of an LSTM, the statistics of a fused
  // attention.
  const std::set<ir::ValueId> used = graph.ReadValues();
  for (const ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    if (IsBound(graph, node)) RETURN_IF_ERROR(CheckNode(graph, node, used, refused));
  }
  return Ok();
}

}  // namespace autospc::autodiff
