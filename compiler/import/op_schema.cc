#include "compiler/import/op_schema.h"

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/enum_tag.h>
#include <c10/core/ScalarType.h>

#include <map>
#include <memory>
#include <mutex>

#include "runtime/outvariant/out_variant.h"

namespace autospc::import {
namespace {

using Type = Parameter::Type;

// `real` distinguishes what `int` stands for in a schema (a ScalarType, a Layout, a MemoryFormat).
Type Classify(const c10::TypePtr& real) {
  switch (real->kind()) {
    case c10::TypeKind::OptionalType:
      return Classify(real->castRaw<c10::OptionalType>()->getElementType());
    case c10::TypeKind::TensorType:
      return Type::kTensor;
    case c10::TypeKind::NumberType:
      return Type::kScalar;
    case c10::TypeKind::IntType:
    case c10::TypeKind::SymIntType:
      return Type::kInt;
    case c10::TypeKind::FloatType:
    case c10::TypeKind::SymFloatType:
      return Type::kFloat;
    case c10::TypeKind::BoolType:
    case c10::TypeKind::SymBoolType:
      return Type::kBool;
    case c10::TypeKind::StringType:
      return Type::kString;
    case c10::TypeKind::ScalarTypeType:
      return Type::kDType;
    case c10::TypeKind::LayoutType:
      return Type::kLayout;
    case c10::TypeKind::MemoryFormatType:
      return Type::kMemoryFormat;
    case c10::TypeKind::DeviceObjType:
      return Type::kDevice;
    case c10::TypeKind::ListType:
      break;
    default:
      return Type::kOther;
  }
  switch (Classify(real->castRaw<c10::ListType>()->getElementType())) {
    case Type::kTensor:
      return Type::kTensorList;
    case Type::kInt:
      return Type::kIntList;
    case Type::kFloat:
      return Type::kFloatList;
    case Type::kBool:
      return Type::kBoolList;
    default:
      return Type::kOther;
  }
}

std::optional<ir::DType> FromC10(int64_t scalar_type) {
  using D = ir::DType;
  switch (static_cast<c10::ScalarType>(scalar_type)) {
    case c10::ScalarType::Bool:
      return D::kBool;
    case c10::ScalarType::Byte:
      return D::kUInt8;
    case c10::ScalarType::Char:
      return D::kInt8;
    case c10::ScalarType::Short:
      return D::kInt16;
    case c10::ScalarType::Int:
      return D::kInt32;
    case c10::ScalarType::Long:
      return D::kInt64;
    case c10::ScalarType::Half:
      return D::kFloat16;
    case c10::ScalarType::BFloat16:
      return D::kBFloat16;
    case c10::ScalarType::Float:
      return D::kFloat32;
    case c10::ScalarType::Double:
      return D::kFloat64;
    case c10::ScalarType::ComplexFloat:
      return D::kComplex64;
    case c10::ScalarType::ComplexDouble:
      return D::kComplex128;
    default:
      return std::nullopt;
  }
}

std::optional<ir::Arg> Default(const c10::IValue& v, Type type) {
  using ir::Arg;
  if (v.isNone()) return Arg::None();
  switch (type) {
    case Type::kDType: {
      const auto dtype = FromC10(v.toInt());
      return dtype ? std::optional(Arg::Type(*dtype)) : std::nullopt;
    }
    case Type::kMemoryFormat:
      return Arg::MemoryFormat(static_cast<c10::MemoryFormat>(v.toInt()) == c10::MemoryFormat::Preserve ? "preserve"
                                                                                                        : "contiguous");
    case Type::kLayout:
      return Arg::Layout("strided");
    case Type::kIntList:
      if (v.isIntList()) return Arg::Ints(v.toIntVector());
      return v.isInt() ? std::optional(Arg::Ints(std::vector<int64_t>{v.toInt()})) : std::nullopt;
    case Type::kFloat:
      return v.isInt() ? Arg::Float(static_cast<double>(v.toInt())) : Arg::Float(v.toDouble());
    case Type::kFloatList:
      return v.isDoubleList() ? std::optional(Arg::Floats(v.toDoubleVector())) : std::nullopt;
    case Type::kBoolList: {
      if (!v.isBoolList()) return std::nullopt;
      std::vector<bool> bools;
      for (const bool b : v.toBoolList()) bools.push_back(b);
      return Arg::Bools(std::move(bools));
    }
    default:
      break;
  }
  if (v.isBool()) return Arg::Bool(v.toBool());
  if (v.isInt()) return Arg::Int(v.toInt());
  if (v.isDouble()) return Arg::Float(v.toDouble());
  if (v.isString()) return Arg::String(v.toStringRef());
  return std::nullopt;
}

std::unique_ptr<OpSchema> Read(std::string_view name) {
  const size_t first = name.find('.'), last = name.rfind('.');
  if (first == name.npos || first == last) return nullptr;
  const auto [qualified, overload] = DispatcherName(name);
  const auto op = c10::Dispatcher::singleton().findSchema({qualified, overload});
  if (!op) return nullptr;
  auto schema = std::make_unique<OpSchema>();
  schema->name = name;
  for (const c10::Argument& a : op->schema().arguments()) {
    Parameter p;
    p.name = a.name();
    p.type = Classify(a.real_type());
    p.optional = a.type()->kind() == c10::TypeKind::OptionalType;
    p.optional_items = a.real_type()->kind() == c10::TypeKind::ListType &&
                       a.real_type()->expectRef<c10::ListType>().getElementType()->kind() == c10::TypeKind::OptionalType;
    p.list_size = a.N().value_or(0);
    if (a.default_value()) p.default_value = Default(*a.default_value(), p.type);
    schema->parameters.push_back(std::move(p));
  }
  schema->results = static_cast<int>(op->schema().returns().size());
  for (const c10::Argument& r : op->schema().returns()) {
    if (r.type()->kind() != c10::TypeKind::TensorType) schema->results = -1;
  }
  schema->dynamic_shape = op->hasTag(at::Tag::dynamic_output_shape);
  schema->autocast_cpu = op->hasKernelForDispatchKey(c10::DispatchKey::AutocastCPU);
  schema->autocast_cuda = op->hasKernelForDispatchKey(c10::DispatchKey::AutocastCUDA);
  return schema;
}

}  // namespace

const OpSchema* FindOp(std::string_view name) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<OpSchema>, std::less<>> known;
  const std::lock_guard lock(mutex);
  auto it = known.find(name);
  if (it == known.end()) it = known.emplace(std::string(name), Read(name)).first;
  return it->second.get();
}

}  // namespace autospc::import
