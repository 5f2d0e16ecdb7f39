#include "compiler/autodiff/bridge.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <limits>

#include <ATen/ScalarOps.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/jit_type.h>
#include <ATen/ops/empty_strided.h>
#include <c10/util/strides.h>

#include "runtime/outvariant/out_variant.h"

namespace autospc::autodiff {
namespace {

using ir::Arg;
using Kind = ir::Arg::Kind;

// In the order of ir::DType.
constexpr std::array<c10::ScalarType, 12> kScalarTypes = {
    c10::ScalarType::Bool, c10::ScalarType::Byte, c10::ScalarType::Char, c10::ScalarType::Short,
    c10::ScalarType::Int, c10::ScalarType::Long, c10::ScalarType::Half, c10::ScalarType::BFloat16,
    c10::ScalarType::Float, c10::ScalarType::Double, c10::ScalarType::ComplexFloat, c10::ScalarType::ComplexDouble,
};

constexpr std::array<std::pair<const char*, c10::MemoryFormat>, 4> kMemoryFormats = {{
    {"contiguous", c10::MemoryFormat::Contiguous},
    {"preserve", c10::MemoryFormat::Preserve},
    {"channels_last", c10::MemoryFormat::ChannelsLast},
    {"channels_last_3d", c10::MemoryFormat::ChannelsLast3d},
}};

at::Tensor WrappedNumber(const Arg& a) {
  const c10::Scalar scalar = a.kind == Kind::kFloat ? c10::Scalar(a.f)
                             : a.kind == Kind::kBool ? c10::Scalar(a.b) : c10::Scalar(a.i.value());
  at::Tensor t = c10::scalar_to_tensor(scalar);
  t.unsafeGetTensorImpl()->set_wrapped_number(true);
  return t;
}

// One list or scalar argument against the (non-optional) schema type; nullopt: they don't go together.
std::optional<c10::IValue> Convert(const Arg& a, const c10::TypePtr& type,
                                   const std::function<at::Tensor(ir::ValueId)>& tensor) {
  switch (type->kind()) {
    case c10::TypeKind::TensorType:
      if (a.kind == Kind::kValue) return c10::IValue(tensor(a.value));
      if (a.is_number()) return c10::IValue(WrappedNumber(a));
      return std::nullopt;
    case c10::TypeKind::NumberType:
      if (a.kind == Kind::kInt) return c10::IValue(a.i.value());
      if (a.kind == Kind::kFloat) return c10::IValue(a.f);
      if (a.kind == Kind::kBool) return c10::IValue(a.b);
      return std::nullopt;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      if (a.kind == Kind::kInt) return c10::IValue(a.i.value());
      if (a.kind == Kind::kBool) return c10::IValue(static_cast<int64_t>(a.b));
      if (a.kind == Kind::kDType) return c10::IValue(static_cast<int64_t>(ToScalarType(a.dtype)));
      if (a.kind == Kind::kLayout) return c10::IValue(static_cast<int64_t>(c10::Layout::Strided));
      if (a.kind == Kind::kMemoryFormat) {
        for (const auto& [name, format] : kMemoryFormats) {
          if (a.s == name) return c10::IValue(static_cast<int64_t>(format));
        }
      }
      return std::nullopt;
    case c10::TypeKind::FloatType:
      if (a.is_number()) return c10::IValue(a.number());
      return std::nullopt;
    case c10::TypeKind::BoolType:
      if (a.kind == Kind::kBool) return c10::IValue(a.b);
      if (a.kind == Kind::kInt) return c10::IValue(a.i.value() != 0);
      return std::nullopt;
    case c10::TypeKind::StringType:
      if (a.kind == Kind::kString) return c10::IValue(a.s);
      return std::nullopt;
    case c10::TypeKind::DeviceObjType:
      return c10::IValue(c10::Device(c10::DeviceType::Meta));
    case c10::TypeKind::ListType: {
      const c10::TypePtr element = type->expectRef<c10::ListType>().getElementType();
      if (element->kind() == c10::TypeKind::TensorType && a.kind == Kind::kValueList) {
        c10::List<at::Tensor> list;
        for (ir::ValueId v : a.values) {
          if (v == ir::kNoValue) return std::nullopt;
          list.push_back(tensor(v));
        }
        return c10::IValue(std::move(list));
      }
      if (element->kind() == c10::TypeKind::OptionalType && a.kind == Kind::kValueList) {
        c10::List<std::optional<at::Tensor>> list;
        for (ir::ValueId v : a.values) list.push_back(v == ir::kNoValue ? std::optional<at::Tensor>() : tensor(v));
        return c10::IValue(std::move(list));
      }
      if (element->kind() == c10::TypeKind::IntType || element->kind() == c10::TypeKind::SymIntType) {
        if (a.kind == Kind::kIntList) return c10::IValue(a.int_values());
        if (a.kind == Kind::kInt) return c10::IValue(std::vector<int64_t>{a.i.value()});
        if (a.kind == Kind::kValueList && a.values.empty()) return c10::IValue(std::vector<int64_t>{});
        return std::nullopt;
      }
      if (element->kind() == c10::TypeKind::FloatType) {
        if (a.kind == Kind::kFloatList) return c10::IValue(a.floats);
        if (a.kind == Kind::kIntList) {
          const std::vector<int64_t> ints = a.int_values();
          return c10::IValue(std::vector<double>(ints.begin(), ints.end()));
        }
        return std::nullopt;
      }
      if (element->kind() == c10::TypeKind::BoolType && a.kind == Kind::kBoolList) {
        c10::List<bool> list;
        for (bool b : a.bools) list.push_back(b);
        return c10::IValue(std::move(list));
      }
      return std::nullopt;
    }
    default: return std::nullopt;
  }
}

}  // namespace

c10::ScalarType ToScalarType(ir::DType dtype) { return kScalarTypes[static_cast<size_t>(dtype)]; }

Result<ir::DType> ToDType(c10::ScalarType type) {
  for (size_t i = 0; i < kScalarTypes.size(); ++i) {
    if (kScalarTypes[i] == type) return static_cast<ir::DType>(i);
  }
  return Error{Code::kUnsupported, fmt::format("element type {} is not supported", c10::toString(type)), "", ""};
}

Result<c10::OperatorHandle> FindOp(const std::string& op) {
  const auto [name, overload] = DispatcherName(op);
  const auto handle = c10::Dispatcher::singleton().findSchema({name, overload});
  if (!handle) {
    return Error{Code::kUnsupported, fmt::format("LibTorch has no schema for op '{}'", op), "",
                 "export the model without this custom op, or replace it by ops of LibTorch"};
  }
  return *handle;
}

std::string OpName(const c10::OperatorName& name) {
  std::string op = name.name;
  op.replace(op.find("::"), 2, ".");
  if (!name.overload_name.empty()) return op + "." + name.overload_name;
  return op.starts_with("autosp.") ? op : op + ".default";
}

Result<torch::jit::Stack> ToStack(const ir::Graph& graph, const ir::Node& node, const c10::FunctionSchema& schema,
                                  const std::function<at::Tensor(ir::ValueId)>& tensor) {
  const auto& arguments = schema.arguments();
  // Trailing defaults of our own ops are left out in the IR.
  const bool has_rest = node.op.starts_with("autosp.") && arguments.size() > node.args.size() &&
                        std::all_of(arguments.begin() + static_cast<std::ptrdiff_t>(node.args.size()), arguments.end(),
                                    [](const c10::Argument& a) { return a.default_value().has_value(); });
  if (arguments.size() != node.args.size() && !has_rest) {
    return Error{Code::kBadInput,
                 fmt::format("{} has {} arguments, its schema {}", node.op, node.args.size(), arguments.size()),
                 ir::Where(graph, node), ""};
  }
  torch::jit::Stack stack;
  stack.reserve(arguments.size());
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (i >= node.args.size()) {
      stack.push_back(*arguments[i].default_value());
      continue;
    }
    const Arg& a = node.args[i];
    c10::TypePtr type = arguments[i].type();
    const bool optional = type->kind() == c10::TypeKind::OptionalType;
    if (optional) type = type->expectRef<c10::OptionalType>().getElementType();
    if (a.is_none() && optional) {
      stack.emplace_back();
      continue;
    }
    std::optional<c10::IValue> v = Convert(a, type, tensor);
    if (!v) {
      return Error{Code::kBadInput, fmt::format("argument '{}' of {} should be {}", arguments[i].name(), node.op, type->str()),
                   ir::Where(graph, node), ""};
    }
    stack.push_back(std::move(*v));
  }
  return stack;
}

Result<Arg> ToArg(const c10::IValue& v, const c10::Argument& argument,
                  const std::function<ir::ValueId(const at::Tensor&)>& value) {
  c10::TypePtr type = argument.type();
  if (type->kind() == c10::TypeKind::OptionalType) type = type->expectRef<c10::OptionalType>().getElementType();
  if (v.isNone()) return Arg::None();
  if (v.isTensor()) {
    const at::Tensor& t = v.toTensor();
    if (!t.defined()) return Arg::None();
    const ir::ValueId id = value(t);
    if (id != ir::kNoValue) return Arg::Value(id);
    if (t.dim() == 0 && t.device().is_cpu()) {  // a constant made inside a kernel or derivative formula
      const c10::Scalar s = t.item();
      if (s.isBoolean()) return Arg::Bool(s.toBool());
      if (s.isIntegral(false)) return Arg::Int(s.toLong());
      if (s.isFloatingPoint()) return Arg::Float(s.toDouble());
    }
    return Error{Code::kUnsupported, fmt::format("a tensor of unknown origin in argument '{}'", argument.name()), "", ""};
  }
  if (v.isTensorList() || (v.isList() && type->kind() == c10::TypeKind::ListType &&
                           type->expectRef<c10::ListType>().getElementType()->kind() == c10::TypeKind::OptionalType)) {
    std::vector<ir::ValueId> ids;
    for (const c10::IValue& e : v.toListRef()) {
      if (e.isNone() || !e.toTensor().defined()) {
        ids.push_back(ir::kNoValue);
        continue;
      }
      ids.push_back(value(e.toTensor()));
      if (ids.back() == ir::kNoValue) {
        return Error{Code::kUnsupported, fmt::format("a tensor of unknown origin in argument '{}'", argument.name()), "", ""};
      }
    }
    return Arg::Values(std::move(ids));
  }
  if (argument.name() == "dtype" && v.isInt()) {
    ASSIGN_OR_RETURN(const ir::DType dtype, ToDType(static_cast<c10::ScalarType>(v.toInt())));
    return Arg::Type(dtype);
  }
  if (argument.name() == "layout" && v.isInt()) return Arg::Layout("strided");
  if (argument.name() == "memory_format" && v.isInt()) {
    for (const auto& [name, format] : kMemoryFormats) {
      if (static_cast<int64_t>(format) == v.toInt()) return Arg::MemoryFormat(name);
    }
  }
  if (v.isDevice()) return Arg::Device("cpu");
  if (v.isInt()) return Arg::Int(v.toInt());
  if (v.isDouble()) return Arg::Float(v.toDouble());
  if (v.isBool()) return Arg::Bool(v.toBool());
  if (v.isString()) return Arg::String(v.toStringRef());
  if (v.isIntList()) return Arg::Ints(v.toIntVector());
  if (v.isDoubleList()) return Arg::Floats(v.toDoubleVector());
  if (v.isBoolList()) {
    std::vector<bool> bools;
    for (const c10::IValue& e : v.toListRef()) bools.push_back(e.toBool());
    return Arg::Bools(std::move(bools));
  }
  if (v.isList() && v.toListRef().empty()) return Arg::Ints(std::vector<int64_t>{});
  if (v.isList()) {  // SymInt[] holding plain integers
    std::vector<int64_t> ints;
    for (const c10::IValue& e : v.toListRef()) {
      if (!e.isInt()) break;
      ints.push_back(e.toInt());
    }
    if (ints.size() == v.toListRef().size()) return Arg::Ints(ints);
  }
  return Error{Code::kUnsupported, fmt::format("argument '{}' of type {}", argument.name(), v.tagKind()), "", ""};
}

at::Tensor MetaTensor(const ir::Value& v) {
  std::vector<int64_t> sizes = v.int_sizes(), strides = v.int_strides();
  const auto options = at::TensorOptions().dtype(ToScalarType(v.dtype)).device(c10::kMeta);
  if (strides.size() != sizes.size()) return at::empty_strided(sizes, c10::contiguous_strides(sizes), options);
  return at::empty_strided(sizes, strides, options);
}

std::vector<at::Tensor> FlattenResults(const torch::jit::Stack& results) {
  std::vector<at::Tensor> flat;
  for (const c10::IValue& v : results) {
    if (v.isTensor()) {
      flat.push_back(v.toTensor());
    } else if (v.isTensorList()) {
      for (const at::Tensor& t : v.toTensorVector()) flat.push_back(t);
    }
  }
  return flat;
}

}  // namespace autospc::autodiff
