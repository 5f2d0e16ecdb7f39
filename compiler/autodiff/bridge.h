// Between ir::Node and LibTorch's boxed calls: names, arguments, element types.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>

#include "passes/ir/graph.h"

namespace autospc::autodiff {

c10::ScalarType ToScalarType(ir::DType dtype);
// kUnsupported for a type that the IR lacks (quantised, float8, …).
Result<ir::DType> ToDType(c10::ScalarType type);

// "aten.add.Tensor" -> aten::add.Tensor; "autosp.vary" -> autosp::vary. kUnsupported where LibTorch has no
// such schema.
Result<c10::OperatorHandle> FindOp(const std::string& op);
// The inverse, ".default" for the empty overload of an aten op.
std::string OpName(const c10::OperatorName& name);

// The node's arguments as the op's schema wants them. `tensor` gives each operand's tensor.
Result<torch::jit::Stack> ToStack(const ir::Graph& graph, const ir::Node& node, const c10::FunctionSchema& schema,
                                  const std::function<at::Tensor(ir::ValueId)>& tensor);

// One argument of a recorded call, the other way round. `value` names a tensor's value, or gives kNoValue
// for one that is not a value of the graph: a wrapped number then becomes a number.
Result<ir::Arg> ToArg(const c10::IValue& v, const c10::Argument& argument,
                      const std::function<ir::ValueId(const at::Tensor&)>& value);

// A meta tensor of the value's sizes and strides, row-major where it has none. They must be bound.
at::Tensor MetaTensor(const ir::Value& v);

// The tensors of a boxed call's results, lists flattened.
std::vector<at::Tensor> FlattenResults(const torch::jit::Stack& results);

}  // namespace autospc::autodiff
