// Builds a graph op by op and computes it at the same time: each op runs on LibTorch's CPU kernels in float64 under
// autograd, unpartitioned. So a graph comes with its shapes and with the gradients that it must have.
#pragma once

#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <torch/csrc/autograd/autograd.h>

#include "compiler/autodiff/bridge.h"
#include "passes/ir/graph.h"
#include "runtime/base/predicate.h"

namespace autospc::testing {

using ir::Arg;
using ir::ValueId;

template <typename T>
T OrThrow(Result<T> result) {
  if (!result.ok()) throw std::runtime_error(result.error().Format());
  return std::move(result).value();
}

class GraphBuilder {
 public:
  ir::Graph graph;
  std::map<std::string, at::Tensor> parameters, inputs;  // by name; parameters require gradients

  ValueId Parameter(const std::string& name, const at::Tensor& data) {
    ir::GraphInput input;
    input.kind = ir::InputKind::kParameter;
    input.name = name;
    input.requires_grad = true;
    at::Tensor leaf = data.detach().clone().requires_grad_(true);
    parameters[name] = leaf;
    return AddInput(input, leaf);
  }

  // seq_dim: the dim that is the sequence, or -1; batch_dim: the one that is the batch.
  ValueId Input(const std::string& name, const at::Tensor& data, int seq_dim, int batch_dim = 0) {
    ir::GraphInput input;
    input.name = name;
    input.seq_dim = seq_dim;
    input.batch_dim = batch_dim;
    inputs[name] = data;
    return AddInput(input, data);
  }

  // The op on these arguments, missing ones filled in by the schema's defaults. Its first result.
  ValueId Op(const std::string& op, std::vector<Arg> args) { return Ops(op, std::move(args)).front(); }

  std::vector<ValueId> Ops(const std::string& op, std::vector<Arg> args) {
    const c10::OperatorHandle handle = OrThrow(autodiff::FindOp(op));
    const auto& schema = handle.schema();
    for (size_t i = args.size(); i < schema.arguments().size(); ++i) {
      const c10::Argument& argument = schema.arguments()[i];
      args.push_back(OrThrow(autodiff::ToArg(argument.default_value().value(), argument,
                                             [](const at::Tensor&) { return ir::kNoValue; })));
    }
    ir::Node node;
    node.op = op;
    node.args = args;
    torch::jit::Stack stack =
        OrThrow(autodiff::ToStack(graph, node, schema, [this](ValueId v) { return tensors_.at(v); }));
    handle.callBoxed(stack);
    std::vector<ValueId> results;
    for (const at::Tensor& t : autodiff::FlattenResults(stack)) results.push_back(AddValue(ir::ShortName(op), t));
    for (size_t i = 0; i < args.size(); ++i) {  // exports name the device
      if (schema.arguments()[i].name() == "device") args[i] = Arg::Device("cpu");
    }
    graph.AddNode(op, std::move(args), results);
    return results;
  }

  // autosp.attention as the canonical passes make it, and by definition here: [B, Hq, Sq, Dv].
  ValueId Attention(ValueId q, ValueId k, ValueId v, const std::vector<ValueId>& vectors, const Predicate& predicate,
                    double scale);

  const at::Tensor& operator[](ValueId v) const { return tensors_.at(v); }
  std::vector<int64_t> sizes(ValueId v) const { return tensors_.at(v).sizes().vec(); }

  void Loss(ValueId v) {
    graph.outputs.push_back({v, ir::OutputKind::kLoss, "loss"});
    loss_ = v;
  }
  double loss() const { return tensors_.at(loss_).item<double>(); }

  // Of the loss, by parameter; those without one are left out.
  std::map<std::string, at::Tensor> Gradients() const {
    std::vector<at::Tensor> leaves;
    for (const auto& [name, leaf] : parameters) leaves.push_back(leaf);
    const std::vector<at::Tensor> gradients =
        torch::autograd::grad({tensors_.at(loss_)}, leaves, {}, std::nullopt, false, /*allow_unused=*/true);
    std::map<std::string, at::Tensor> result;
    size_t i = 0;
    for (const auto& [name, leaf] : parameters) {
      if (gradients[i].defined()) result[name] = gradients[i];
      ++i;
    }
    return result;
  }

 private:
  static std::vector<ir::Expr> Exprs(at::IntArrayRef v) { return {v.begin(), v.end()}; }

  ValueId AddInput(const ir::GraphInput& input, const at::Tensor& t) {
    const ValueId v = graph.AddInput(input, "in_" + input.name, OrThrow(autodiff::ToDType(t.scalar_type())),
                                     Exprs(t.sizes()), Exprs(t.strides()));
    tensors_[v] = t;
    return v;
  }

  ValueId AddValue(std::string_view name, const at::Tensor& t) {
    const ValueId v = graph.AddValue(name, OrThrow(autodiff::ToDType(t.scalar_type())), Exprs(t.sizes()));
    tensors_[v] = t;
    return v;
  }

  std::map<ValueId, at::Tensor> tensors_;
  ValueId loss_ = ir::kNoValue;
};

inline ValueId GraphBuilder::Attention(ValueId q, ValueId k, ValueId v, const std::vector<ValueId>& vectors,
                                       const Predicate& predicate, double scale) {
  const at::Tensor &qt = tensors_.at(q), &kt = tensors_.at(k), &vt = tensors_.at(v);
  const int64_t batch = qt.size(0), heads = qt.size(1), rows = qt.size(2), keys = kt.size(2);
  at::Tensor allowed = at::empty({batch, 1, rows, keys}, at::kBool);
  for (int64_t b = 0; b < batch; ++b) {
    const VectorAt at = [&](int i, int64_t position) {
      const at::Tensor& t = tensors_.at(vectors[static_cast<size_t>(i)]);
      return t[t.size(0) == 1 ? 0 : b][position].item().to<int64_t>();
    };
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < keys; ++j) allowed[b][0][i][j] = Holds(predicate, i, j, at);
    }
  }
  const int64_t group = heads / kt.size(1);
  const at::Tensor scores = qt.matmul(kt.repeat_interleave(group, 1).transpose(-1, -2)) * scale;
  const at::Tensor excluded = allowed.logical_not();
  // A row without any key: uniform at first, then 0.
  const at::Tensor p = scores.masked_fill(excluded, -1e300).softmax(-1).masked_fill(excluded, 0);
  const at::Tensor out = p.matmul(vt.repeat_interleave(group, 1));
  const ValueId result = AddValue("attention", out), lse = AddValue("lse", at::empty({batch, heads, rows}, at::kDouble));
  tensors_.erase(lse);
  graph.AddNode("autosp.attention",
                {Arg::Value(q), Arg::Value(k), Arg::Value(v), Arg::Values(vectors), Arg::String(predicate.ToString()),
                 Arg::Float(scale), Arg::Bool(false), Arg::Int(rows), Arg::Ints(std::vector<int64_t>{}), Arg::Bool(false),
                 Arg::Int(heads), Arg::Float(0), Arg::Int(0)},
                {result, lse});
  return result;
}

}  // namespace autospc::testing
