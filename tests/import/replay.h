// Runs an imported graph on real CPU tensors through LibTorch's dispatcher, node by node, and holds each result to
// what the graph records of it.
#pragma once

#include <ATen/ScalarOps.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>

#include <map>
#include <string>
#include <vector>

#include "passes/ir/graph.h"
#include "runtime/base/result.h"

namespace autospc::import::testing {

inline c10::ScalarType ScalarTypeOf(ir::DType dtype) {
  using S = c10::ScalarType;
  constexpr S kTypes[] = {S::Bool, S::Byte,     S::Char,  S::Short,  S::Int,          S::Long,
                          S::Half, S::BFloat16, S::Float, S::Double, S::ComplexFloat, S::ComplexDouble};
  return kTypes[static_cast<size_t>(dtype)];
}

using Tensors = std::map<ir::ValueId, at::Tensor>;

inline c10::IValue ToIValue(const ir::Arg& a, c10::TypePtr type, const Tensors& tensors) {
  using Kind = ir::Arg::Kind;
  if (a.is_none()) return {};
  if (type->kind() == c10::TypeKind::OptionalType) type = type->castRaw<c10::OptionalType>()->getElementType();
  if (type->kind() == c10::TypeKind::TensorType && a.is_number()) {
    at::Tensor t = a.kind == Kind::kInt    ? c10::scalar_to_tensor(a.int_value())
                   : a.kind == Kind::kBool ? c10::scalar_to_tensor(a.b)
                                           : c10::scalar_to_tensor(a.f);
    t.unsafeGetTensorImpl()->set_wrapped_number(true);
    return t;
  }
  switch (a.kind) {
    case Kind::kValue:
      return tensors.at(a.value);
    case Kind::kValueList: {
      if (type->castRaw<c10::ListType>()->getElementType()->kind() == c10::TypeKind::OptionalType) {
        c10::List<std::optional<at::Tensor>> list;
        for (const ir::ValueId v : a.values)
          list.push_back(v == ir::kNoValue ? std::nullopt : std::optional(tensors.at(v)));
        return list;
      }
      c10::List<at::Tensor> list;
      for (const ir::ValueId v : a.values) list.push_back(tensors.at(v));
      return list;
    }
    case Kind::kInt:
      return a.int_value();
    case Kind::kIntList:
      return a.int_values();
    case Kind::kFloat:
      return a.f;
    case Kind::kFloatList:
      return a.floats;
    case Kind::kBool:
      return a.b;
    case Kind::kBoolList: {
      c10::List<bool> list;
      for (const bool b : a.bools) list.push_back(b);
      return list;
    }
    case Kind::kString:
      return a.s;
    case Kind::kDType:
      return static_cast<int64_t>(ScalarTypeOf(a.dtype));
    case Kind::kLayout:
      return static_cast<int64_t>(c10::Layout::Strided);
    case Kind::kDevice:
      return c10::Device(a.s);
    case Kind::kMemoryFormat:
      return static_cast<int64_t>(a.s == "preserve" ? c10::MemoryFormat::Preserve : c10::MemoryFormat::Contiguous);
    case Kind::kNone:
      break;
  }
  return {};
}

// Where a result is not what the graph says, "".
inline std::string Difference(const ir::Value& v, const at::Tensor& t) {
  if (t.scalar_type() != ScalarTypeOf(v.dtype))
    return fmt::format("{} has type {} and the graph says {}", v.name, c10::toString(t.scalar_type()),
                       ir::Name(v.dtype));
  if (t.sizes().vec() != v.int_sizes()) return v.name + " has other sizes than the graph says";
  if (!v.strides.empty() && t.numel() > 1) {
    for (int d = 0; d < v.rank(); ++d) {
      if (t.size(d) > 1 && t.stride(d) != v.strides[d].value())
        return fmt::format("{} has stride {} along dim {} and the graph says {}", v.name, t.stride(d), d,
                           v.strides[d].value());
    }
  }
  return "";
}

// `tensors` holds the inputs, and afterwards every value. kFailed where LibTorch refuses an op, or makes something
// else than the graph records.
inline Status Replay(const ir::Graph& graph, Tensors* tensors) {
  for (const ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    const auto fail = [&](std::string what) {
      return Error{Code::kFailed, std::move(what), fmt::format("{} at {}", node.op, node.source), ""};
    };
    std::vector<at::Tensor> results;
    if (node.op == "autosp.stop_gradient") {
      results.push_back(tensors->at(node.args[0].value));
    } else {
      const size_t first = node.op.find('.'), last = node.op.rfind('.');
      std::string overload = node.op.substr(last + 1);
      if (overload == "default") overload.clear();
      try {
        const auto op = c10::Dispatcher::singleton().findSchemaOrThrow(
            (node.op.substr(0, first) + "::" + node.op.substr(first + 1, last - first - 1)).c_str(), overload.c_str());
        torch::jit::Stack stack;
        for (size_t i = 0; i < node.args.size(); ++i)
          stack.push_back(ToIValue(node.args[i], op.schema().arguments()[i].type(), *tensors));
        op.callBoxed(&stack);
        for (const c10::IValue& v : stack) {
          if (v.isTensor())
            results.push_back(v.toTensor());
          else
            for (const at::Tensor& t : v.toTensorVector()) results.push_back(t);
        }
      } catch (const std::exception& e) {
        return fail(e.what());
      }
    }
    if (results.size() != node.results.size())
      return fail(fmt::format("{} results, and the graph says {}", results.size(), node.results.size()));
    for (size_t i = 0; i < results.size(); ++i) {
      if (const std::string difference = Difference(graph.value(node.results[i]), results[i]); !difference.empty())
        return fail(difference);
      (*tensors)[node.results[i]] = results[i];
    }
  }
  return Ok();
}

}  // namespace autospc::import::testing
