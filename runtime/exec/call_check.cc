// A call against its op's schema.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/jit/frontend/function_schema_parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>

#include "runtime/exec/call.h"
#include "runtime/exec/library_kernel.h"
#include "runtime/base/autosp_ops.h"

namespace autospc::exec {
namespace {

using c10::TypeKind;
using program::ArgKind;

const c10::FunctionSchema* OwnSchema(std::string_view op) {
  static const auto* const schemas = [] {
    auto* all = new std::map<std::string, c10::FunctionSchema, std::less<>>;
    for (const std::string_view text : kAutospSchemas) {
      c10::FunctionSchema schema = torch::jit::parseSchema("autosp::" + std::string(text));
      all->emplace("autosp." + schema.name().substr(schema.name().find("::") + 2), std::move(schema));
    }
    return all;
  }();
  const auto it = schemas->find(op);
  return it == schemas->end() ? nullptr : &it->second;
}

bool IsTensorKind(ArgKind kind) { return kind == ArgKind::Tensor || kind == ArgKind::TensorList; }

// Whether an argument may stand where the schema has this type. Numbers are told apart by the kernels.
bool Fits(const program::ArgT& arg, const c10::Argument& argument, bool library) {
  c10::TypePtr type = argument.type();
  if (type->kind() == TypeKind::OptionalType) {
    if (arg.kind == ArgKind::None) return true;
    type = type->expectRef<c10::OptionalType>().getElementType();
  }
  if (arg.kind == ArgKind::None) return false;
  if (type->kind() == TypeKind::TensorType) {
    // LibTorch makes a tensor of a number; kernels of our own ops take tensors alone.
    const bool number = arg.kind == ArgKind::Int || arg.kind == ArgKind::Float || arg.kind == ArgKind::Bool;
    return arg.kind == ArgKind::Tensor || (library && number);
  }
  if (type->kind() != TypeKind::ListType) return !IsTensorKind(arg.kind);
  const c10::TypePtr element = type->expectRef<c10::ListType>().getElementType();
  if (element->kind() == TypeKind::OptionalType) return arg.kind == ArgKind::TensorList;
  if (element->kind() != TypeKind::TensorType) return !IsTensorKind(arg.kind);
  if (arg.kind != ArgKind::TensorList) return false;
  for (const int64_t tensor : arg.ints) {
    if (tensor < 0) return false;
  }
  return true;
}

// Whether two dense tensors share some bytes and begin apart: an op that reads one and makes the other would read what it has made.
bool OverlapApart(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined() || !a.is_non_overlapping_and_dense() || !b.is_non_overlapping_and_dense()) return false;
  const auto begin_a = reinterpret_cast<uintptr_t>(a.const_data_ptr()), begin_b = reinterpret_cast<uintptr_t>(b.const_data_ptr());
  return begin_a != begin_b && begin_a < begin_b + static_cast<uintptr_t>(Bytes(b)) && begin_b < begin_a + static_cast<uintptr_t>(Bytes(a));
}

// A result written over a dying operand begins where that does; LibTorch's kernels are trusted with that, and with no other overlap.
Status CheckOverlap(const Call& call) {
  for (const at::Tensor& result : call.outputs) {
    for (const auto& argument : call.args) {
      bool apart = OverlapApart(result, argument.tensor);
      for (const at::Tensor& t : argument.tensors) apart = apart || OverlapApart(result, t);
      if (apart) return Misshapen(call, "a result overlaps an operand");
    }
  }
  return Ok();
}

}  // namespace

std::vector<bool> WrittenArguments(std::string_view op) {
  const c10::FunctionSchema* schema = OwnSchema(op);
  std::optional<c10::OperatorHandle> handle;
  if (schema == nullptr && (handle = FindLibraryOp(op))) schema = &handle->schema();
  std::vector<bool> written;
  if (schema == nullptr) return written;
  for (const c10::Argument& a : schema->arguments()) written.push_back(a.alias_info() != nullptr && a.alias_info()->isWrite());
  return written;
}

Error Misshapen(const Call& call, std::string_view what) {
  return Error{Code::kBadInput, fmt::format("{}: {}", call.instruction->op, what), "", "compile the model again"};
}

Status CheckCall(const Call& call) {
  const std::string& op = call.instruction->op;
  const c10::FunctionSchema* schema = OwnSchema(op);
  std::optional<c10::OperatorHandle> handle;
  if (schema == nullptr) {
    handle = FindLibraryOp(op);
    if (!handle) return Ok();  // whoever makes the kernel says so
    schema = &handle->schema();
  }
  const auto& arguments = schema->arguments();
  if (call.args.size() > arguments.size()) {
    return Misshapen(call, fmt::format("{} arguments of {}", call.args.size(), arguments.size()));
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (i >= call.args.size()) {
      if (!arguments[i].default_value()) return Misshapen(call, fmt::format("no argument \"{}\"", arguments[i].name()));
    } else if (!Fits(*call.args[i].arg, arguments[i], handle.has_value())) {
      return Misshapen(call, fmt::format("argument \"{}\" must be {}, and the program gives {}", arguments[i].name(),
                                         arguments[i].type()->str(), program::EnumNameArgKind(call.args[i].arg->kind)));
    }
  }
  const bool makes = handle && std::none_of(schema->returns().begin(), schema->returns().end(),
                                            [](const c10::Argument& r) { return r.alias_info() != nullptr; });
  if (makes) RETURN_IF_ERROR(CheckOverlap(call));
  // An op that writes to its operands is given no results; a list's length is for the kernel to compare.
  const auto& returns = schema->returns();
  for (const c10::Argument& result : returns) {
    if (result.type()->kind() == TypeKind::ListType) return Ok();
  }
  const bool in_place = !returns.empty() && returns[0].alias_info() != nullptr && returns[0].alias_info()->isWrite();
  if (call.outputs.size() == returns.size() || (in_place && call.outputs.empty())) return Ok();
  return Misshapen(call, fmt::format("{} results of {}", call.outputs.size(), returns.size()));
}

}  // namespace autospc::exec
