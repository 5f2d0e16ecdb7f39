#include "runtime/exec/library_kernel.h"

#include <ATen/ScalarOps.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>
#include <c10/core/Device.h>
#include <c10/core/Layout.h>
#include <c10/core/MemoryFormat.h>
#include <fmt/ranges.h>

#include "runtime/outvariant/out_variant.h"

namespace autospc::exec {
namespace {

using c10::IValue;
using c10::TypeKind;
using program::ArgKind;

Error Misfit(const Call& call, size_t i, const c10::Argument& argument) {
  return Error{
      Code::kBadInput,
      fmt::format("argument \"{}\" of {} must be {}, and the program gives {}", argument.name(), call.instruction->op,
                  argument.type()->str(), program::EnumNameArgKind(call.args[i].arg->kind)),
      "", "the package was made by another version of autospc"};
}

// A Python number where the schema wants a tensor: it takes part in type promotion as a number does.
at::Tensor WrappedNumber(const c10::Scalar& number) {
  at::Tensor tensor = c10::scalar_to_tensor(number);
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

Result<int64_t> MemoryFormatOf(std::string_view name) {
  using c10::MemoryFormat;
  if (name == "contiguous") return static_cast<int64_t>(MemoryFormat::Contiguous);
  if (name == "preserve") return static_cast<int64_t>(MemoryFormat::Preserve);
  if (name == "channels_last") return static_cast<int64_t>(MemoryFormat::ChannelsLast);
  if (name == "channels_last_3d") return static_cast<int64_t>(MemoryFormat::ChannelsLast3d);
  return Error{Code::kBadInput, fmt::format("unknown memory format \"{}\"", name), "", ""};
}

c10::TypePtr Unwrapped(const c10::TypePtr& type) {
  return type->kind() == TypeKind::OptionalType ? type->expectRef<c10::OptionalType>().getElementType() : type;
}

IValue NumberValue(const Call& call, size_t i, TypeKind kind) {
  switch (kind) {
    case TypeKind::TensorType:
      return WrappedNumber(call.Number(i));
    case TypeKind::FloatType:
      return call.Float(i);
    case TypeKind::BoolType:
      return call.Bool(i);
    case TypeKind::IntType:
    case TypeKind::SymIntType:
      return call.Int(i);
    default:
      return IValue(call.Number(i));
  }
}

Result<IValue> ToIValue(const Call& call, size_t i, const c10::Argument& argument) {
  const program::ArgT& arg = *call.args[i].arg;
  const c10::TypePtr type = Unwrapped(argument.type());
  const c10::TypePtr element =
      type->kind() == TypeKind::ListType ? type->expectRef<c10::ListType>().getElementType() : nullptr;
  switch (arg.kind) {
    case ArgKind::None:
      return IValue();
    case ArgKind::Tensor:
      return IValue(call.Tensor(i));
    case ArgKind::TensorList: {
      if (element && element->kind() == TypeKind::OptionalType) {
        c10::List<std::optional<at::Tensor>> list;
        for (const at::Tensor& t : call.Tensors(i)) {
          list.push_back(t.defined() ? std::optional<at::Tensor>(t) : std::nullopt);
        }
        return IValue(std::move(list));
      }
      c10::List<at::Tensor> list;
      for (const at::Tensor& t : call.Tensors(i)) list.push_back(t);
      return IValue(std::move(list));
    }
    case ArgKind::Int:
    case ArgKind::Float:
    case ArgKind::Bool: {
      if (!element) return NumberValue(call, i, type->kind());
      const int64_t count = argument.N().value_or(1);  // int[2] stride=1 stands for [1, 1]
      if (element->kind() == TypeKind::FloatType)
        return IValue(c10::List<double>(std::vector<double>(count, call.Float(i))));
      return IValue(c10::List<int64_t>(std::vector<int64_t>(count, call.Int(i))));
    }
    case ArgKind::IntList: {
      if (element && element->kind() == TypeKind::FloatType) {
        return IValue(c10::List<double>(std::vector<double>(arg.ints.begin(), arg.ints.end())));
      }
      return IValue(c10::List<int64_t>(arg.ints));
    }
    case ArgKind::FloatList:
      return IValue(c10::List<double>(arg.floats));
    case ArgKind::BoolList: {
      c10::List<bool> list;
      for (int64_t b : arg.ints) list.push_back(b != 0);
      return IValue(std::move(list));
    }
    case ArgKind::String:
      return IValue(arg.s);
    case ArgKind::DType:
      return IValue(static_cast<int64_t>(ToScalarType(arg.dtype)));
    case ArgKind::Layout: {
      if (arg.s != "strided") return Misfit(call, i, argument);
      return IValue(static_cast<int64_t>(c10::Layout::Strided));
    }
    case ArgKind::Device:  // of the run: the export's is not asked
      return IValue(call.context->device);
    case ArgKind::MemoryFormat: {
      ASSIGN_OR_RETURN(const int64_t format, MemoryFormatOf(arg.s));
      return IValue(format);
    }
  }
  return Misfit(call, i, argument);
}

Result<std::vector<IValue>> ToStack(const Call& call, const c10::FunctionSchema& schema) {
  const auto& arguments = schema.arguments();
  std::vector<IValue> stack;
  for (size_t i = 0; i < call.args.size(); ++i) {
    ASSIGN_OR_RETURN(IValue value, ToIValue(call, i, arguments[i]));
    stack.push_back(std::move(value));
  }
  return stack;
}

bool Writes(const c10::FunctionSchema& schema) {
  for (const c10::Argument& argument : schema.arguments()) {
    if (argument.alias_info() != nullptr && argument.alias_info()->isWrite()) return true;
  }
  return false;
}

// Ops that give a tensor other sizes, strides or memory than the plan has for it, take raw storages, or touch files.
bool ReachesOut(const c10::OperatorHandle& op) {
  if (op.hasTag(at::Tag::inplace_view) || !op.schema().name().starts_with("aten::")) return true;
  for (const c10::Argument& argument : op.schema().arguments()) {
    const TypeKind kind = Unwrapped(argument.type())->kind();
    if (kind == TypeKind::StorageType || kind == TypeKind::StreamObjType || kind == TypeKind::QSchemeType) return true;
    if (kind == TypeKind::StringType && argument.name() == "filename") return true;
  }
  return false;
}

// Whether the op has a kernel where the call's results are.
bool RunsThere(const c10::OperatorHandle& op, const Call& call) {
  const c10::Device device = call.context->device;
  if (device.is_cpu() || call.outputs.empty()) return true;
  return op.hasComputedKernelForDispatchKey(c10::highestPriorityBackendTypeId(call.outputs[0].key_set()));
}

// The tensors of a call's results, lists flattened.
void CollectResults(const std::vector<IValue>& stack, std::vector<at::Tensor>* results) {
  for (const IValue& value : stack) {
    if (value.isTensor()) {
      results->push_back(value.toTensor());
    } else if (value.isTensorList()) {
      for (const at::Tensor& t : value.toTensorVector()) results->push_back(t);
    }
  }
}

}  // namespace

std::optional<c10::OperatorHandle> FindLibraryOp(std::string_view op) {
  const auto [base, overload] = DispatcherName(op);
  return c10::Dispatcher::singleton().findSchema({base, overload});
}

Result<LibraryKernel> MakeLibraryKernel(const Call& call) {
  const std::string& op = call.instruction->op;
  const auto handle = FindLibraryOp(op);
  if (!handle) {
    return Error{Code::kUnsupported, fmt::format("this LibTorch has no op {}", op), "",
                 "the package was made for another version of LibTorch"};
  }
  if (ReachesOut(*handle)) {
    return Error{Code::kBadInput, fmt::format("{} is no op of a compiled program", op), "",
                 "the package was not made by autospc: don't run it"};
  }
  if (call.args.size() != handle->schema().arguments().size()) {
    return Error{Code::kBadInput,
                 fmt::format("{} takes {} arguments, and the program gives {}", op, handle->schema().arguments().size(),
                             call.args.size()),
                 "", "the package was made for another version of LibTorch"};
  }
  ASSIGN_OR_RETURN(std::vector<IValue> values, ToStack(call, handle->schema()));
  bool all_wanted = true;
  for (const at::Tensor& out : call.outputs) all_wanted = all_wanted && out.defined();

  if (Writes(handle->schema())) {
    auto run = [handle = *handle, values = std::move(values), stack = std::vector<IValue>()]() mutable -> Status {
      stack.assign(values.begin(), values.end());
      handle.callBoxed(&stack);
      stack.clear();
      return Ok();
    };
    return LibraryKernel{std::move(run), Way::kInPlace};
  }
  const auto out = OutVariant(op);
  if (out && all_wanted && RunsThere(FindLibraryOp(*out).value(), call)) {
    const auto [out_base, out_overload] = DispatcherName(*out);
    const auto out_handle = c10::Dispatcher::singleton().findSchemaOrThrow(out_base.c_str(), out_overload.c_str());
    for (const at::Tensor& t : call.outputs) values.emplace_back(t);
    auto run = [out_handle, values = std::move(values), stack = std::vector<IValue>()]() mutable -> Status {
      stack.assign(values.begin(), values.end());
      out_handle.callBoxed(&stack);
      stack.clear();
      return Ok();
    };
    return LibraryKernel{std::move(run), Way::kOut};
  }
  auto run = [handle = *handle, values = std::move(values), stack = std::vector<IValue>(),
              c = &call]() mutable -> Status {
    stack.assign(values.begin(), values.end());
    handle.callBoxed(&stack);
    std::vector<at::Tensor> results;
    CollectResults(stack, &results);
    stack.clear();
    if (results.size() != c->outputs.size()) {
      return Error{Code::kBadInput,
                   fmt::format("{} gives {} tensors, and the program expects {}", c->instruction->op, results.size(),
                               c->outputs.size()),
                   "", "the package was made for another version of LibTorch"};
    }
    for (size_t i = 0; i < results.size(); ++i) {
      const at::Tensor& out = c->outputs[i];
      if (!out.defined() || !results[i].defined()) continue;  // a gradient that is not asked for
      if (results[i].sizes() != out.sizes()) {
        return Error{Code::kFailed,
                     fmt::format("{} gives {} where the plan has {}", c->instruction->op,
                                 fmt::join(results[i].sizes(), "x"), fmt::join(out.sizes(), "x")),
                     "", ""};
      }
      out.copy_(results[i]);
    }
    return Ok();
  };
  return LibraryKernel{std::move(run), Way::kFallback};
}

}  // namespace autospc::exec
