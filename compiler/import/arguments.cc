#include "compiler/import/arguments.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "compiler/import/archive.h"

namespace autospc::import {
namespace {

using ir::Arg;
using nlohmann::json;
using Type = Parameter::Type;

Result<Arg> ReadLayout(int64_t code) {
  if (code == 7) return Arg::Layout("strided");
  return Error{Code::kUnsupported, "a layout other than strided", "", "make the tensor dense before exporting"};
}

Result<Arg> ReadMemoryFormat(int64_t code) {
  switch (code) {
    case 1:
      return Arg::MemoryFormat("contiguous");
    case 2:
      return Arg::MemoryFormat("channels_last");
    case 3:
      return Arg::MemoryFormat("channels_last_3d");
    case 4:
      return Arg::MemoryFormat("preserve");
    default:
      return Error{Code::kBadInput, fmt::format("{} is no memory format", code), "", ""};
  }
}

Result<ir::Expr> ReadIntItem(const json& v, const Scope& scope) {
  if (v.is_number_integer()) return ir::Expr(Integer(v));
  if (const auto it = v.find("as_int"); it != v.end()) return ir::Expr(Integer(*it));
  return scope.Int(v.at("as_name").get<std::string>());
}

// One number where the schema wants it in another form: 1 for [1, 1], 2 for 2.0.
Arg FitNumber(Arg a, const Parameter& p) {
  const size_t copies = std::max(p.list_size, 1);
  if (p.type == Type::kIntList && a.kind == Arg::Kind::kInt) return Arg::Ints(std::vector<ir::Expr>(copies, a.i));
  if (p.type == Type::kFloat && (a.kind == Arg::Kind::kBool || (a.kind == Arg::Kind::kInt && a.i.is_const())))
    return Arg::Float(a.number());
  if (p.type == Type::kFloatList && a.is_number() && (a.kind != Arg::Kind::kInt || a.i.is_const())) {
    return Arg::Floats(std::vector<double>(copies, a.number()));
  }
  if (p.type == Type::kBoolList && a.kind == Arg::Kind::kBool) return Arg::Bools(std::vector<bool>(copies, a.b));
  if (p.type == Type::kInt && a.kind == Arg::Kind::kBool) return Arg::Int(a.b ? 1 : 0);
  if (p.type == Type::kBool && a.kind == Arg::Kind::kInt && a.i.is_const()) return Arg::Bool(a.i.value() != 0);
  return a;
}

// A list of numbers; an empty one has the element type of the schema.
Arg FitList(std::vector<ir::Expr> ints, const Parameter& p) {
  if (p.type == Type::kFloatList) {
    std::vector<double> floats;
    for (const ir::Expr& e : ints) floats.push_back(static_cast<double>(e.value()));
    return Arg::Floats(std::move(floats));
  }
  if (ints.empty() && p.type == Type::kTensorList) return Arg::Values({});
  if (ints.empty() && p.type == Type::kBoolList) return Arg::Bools({});
  return Arg::Ints(std::move(ints));
}

Result<Arg> ReadPending(const json& v, const Parameter& p, const Scope& scope, std::optional<Sym>* pending) {
  if (const auto it = v.find("as_float"); it != v.end()) {
    ASSIGN_OR_RETURN(const double f, ReadFloat(*it));
    return Arg::Float(f);
  }
  if (const auto it = v.find("as_bool"); it != v.end()) return Arg::Bool(it->get<bool>());
  ASSIGN_OR_RETURN(Sym sym, scope.Number(v.at("as_name").get<std::string>()));
  if (const auto unbacked = FindUnbacked(sym)) {
    return Error{Code::kUnsupported, fmt::format("argument '{}' depends on data (symbol {})", p.name, *unbacked), "",
                 "keep the number a tensor: avoid .item()"};
  }
  if (sym.kind == Sym::Kind::kFloat) return Arg::Float(sym.f);
  if (sym.kind == Sym::Kind::kBool) return Arg::Bool(sym.i != 0);
  *pending = std::move(sym);
  if (p.type == Type::kBool) return Arg::Bool(false);
  return Arg::Float(std::numeric_limits<double>::quiet_NaN());
}

Result<Arg> ReadTensorList(const json& list, const Scope& scope) {
  std::vector<ir::ValueId> values;
  for (const json& v : list) {
    if (v.contains("as_none")) {
      values.push_back(ir::kNoValue);
      continue;
    }
    const json& tensor = v.contains("as_tensor") ? v.at("as_tensor") : v;
    ASSIGN_OR_RETURN(const ir::ValueId id, scope.Tensor(tensor.at("name").get<std::string>()));
    values.push_back(id);
  }
  return Arg::Values(std::move(values));
}

Result<Arg> ReadArgument(const json& arg, const Parameter& p, const Scope& scope, std::optional<Sym>* pending) {
  const auto& tagged = arg.get_ref<const json::object_t&>();
  if (tagged.size() != 1)
    return Error{Code::kBadInput, fmt::format("argument '{}' has {} kinds instead of one", p.name, tagged.size()), "",
                 ""};
  const auto& [kind, v] = *tagged.begin();
  if (kind == "as_none") return Arg::None();
  if (kind == "as_tensor") {
    ASSIGN_OR_RETURN(const ir::ValueId id, scope.Tensor(v.at("name").get_ref<const std::string&>()));
    return p.type == Type::kTensorList ? Arg::Values({id}) : Arg::Value(id);
  }
  if (kind == "as_optional_tensor") return ReadArgument(v, p, scope, pending);
  if (kind == "as_tensors" || kind == "as_optional_tensors") return ReadTensorList(v, scope);
  if (kind == "as_int") return FitNumber(Arg::Int(Integer(v)), p);
  if (kind == "as_bool") return FitNumber(Arg::Bool(v.get<bool>()), p);
  if (kind == "as_float") {
    ASSIGN_OR_RETURN(const double f, ReadFloat(v));
    return FitNumber(Arg::Float(f), p);
  }
  if (kind == "as_sym_int") {
    // A size where the schema wants a float ends as a number once sizes are bound.
    if (p.type == Type::kFloat && v.contains("as_name")) return ReadPending(v, p, scope, pending);
    ASSIGN_OR_RETURN(ir::Expr e, ReadIntItem(v, scope));
    return FitNumber(Arg::Int(std::move(e)), p);
  }
  if (kind == "as_sym_float" || kind == "as_sym_bool") return ReadPending(v, p, scope, pending);
  if (kind == "as_ints" || kind == "as_sym_ints") {
    std::vector<ir::Expr> ints;
    for (const json& item : v) {
      ASSIGN_OR_RETURN(ir::Expr e, ReadIntItem(item, scope));
      if (p.type == Type::kFloatList && !e.is_const()) {
        return Error{Code::kUnsupported, fmt::format("argument '{}' is a list of floats that depend on sizes", p.name),
                     "", ""};
      }
      ints.push_back(std::move(e));
    }
    return FitList(std::move(ints), p);
  }
  if (kind == "as_floats") {
    std::vector<double> floats;
    for (const json& item : v) {
      ASSIGN_OR_RETURN(const double f, ReadFloat(item));
      floats.push_back(f);
    }
    return Arg::Floats(std::move(floats));
  }
  if (kind == "as_bools") {
    std::vector<bool> bools;
    for (const json& item : v) bools.push_back(item.get<bool>());
    return Arg::Bools(std::move(bools));
  }
  if (kind == "as_string") return Arg::String(v.get<std::string>());
  if (kind == "as_device") return Arg::Device("cpu");
  if (kind == "as_scalar_type") {
    ASSIGN_OR_RETURN(const ir::DType dtype, ExportDType(Integer(v)));
    return Arg::Type(dtype);
  }
  if (kind == "as_memory_format") return ReadMemoryFormat(Integer(v));
  if (kind == "as_layout") return ReadLayout(Integer(v));
  return Error{Code::kUnsupported, fmt::format("argument '{}' is of kind '{}'", p.name, kind), "",
               "rewrite the model without it"};
}

}  // namespace

Result<double> ReadFloat(const json& v) {
  if (!v.is_string()) return v.get<double>();
  const std::string& s = v.get_ref<const std::string&>();
  if (s == "Infinity") return std::numeric_limits<double>::infinity();
  if (s == "-Infinity") return -std::numeric_limits<double>::infinity();
  if (s == "NaN") return std::numeric_limits<double>::quiet_NaN();
  return Error{Code::kBadInput, fmt::format("'{}' is no number", s), "", ""};
}

bool Accepts(const Parameter& p, const Arg& a) {
  using Kind = Arg::Kind;
  if (a.is_none()) return p.optional;
  switch (p.type) {
    case Type::kTensor:
      return a.is_value() || a.is_number();
    case Type::kTensorList:
      return a.kind == Kind::kValueList &&
             (p.optional_items || std::find(a.values.begin(), a.values.end(), ir::kNoValue) == a.values.end());
    case Type::kScalar:
      return a.is_number();
    case Type::kInt:
      return a.kind == Kind::kInt;
    case Type::kIntList:
      return a.kind == Kind::kIntList;
    case Type::kFloat:
      return a.kind == Kind::kFloat;
    case Type::kFloatList:
      return a.kind == Kind::kFloatList;
    case Type::kBool:
      return a.kind == Kind::kBool;
    case Type::kBoolList:
      return a.kind == Kind::kBoolList;
    case Type::kString:
      return a.kind == Kind::kString;
    case Type::kDType:
      return a.kind == Kind::kDType;
    case Type::kLayout:
      return a.kind == Kind::kLayout;
    case Type::kDevice:
      return a.kind == Kind::kDevice;
    case Type::kMemoryFormat:
      return a.kind == Kind::kMemoryFormat;
    case Type::kOther:
      return false;
  }
  return false;
}

Result<ReadArgs> ReadArguments(const json& inputs, const OpSchema& schema, const Scope& scope) {
  ReadArgs out;
  std::vector<bool> given(schema.parameters.size(), false);
  out.args.resize(schema.parameters.size());
  size_t position = 0;
  for (const json& input : inputs) {
    const std::string& name = input.at("name").get_ref<const std::string&>();
    // Arguments mostly come in order; else by name.
    size_t i = position;
    if (!name.empty() && (i >= schema.parameters.size() || schema.parameters[i].name != name)) {
      for (i = 0; i < schema.parameters.size() && schema.parameters[i].name != name; ++i) {
      }
    }
    if (i >= schema.parameters.size()) {
      return Error{Code::kBadInput, fmt::format("{} has no argument '{}'", schema.name, name), "",
                   "export with the torch release that this build uses"};
    }
    if (given[i]) return Error{Code::kBadInput, fmt::format("argument '{}' is given twice", name), "", ""};
    std::optional<Sym> pending;
    ASSIGN_OR_RETURN(out.args[i], ReadArgument(input.at("arg"), schema.parameters[i], scope, &pending));
    if (!Accepts(schema.parameters[i], out.args[i])) {
      return Error{Code::kBadInput,
                   fmt::format("argument '{}' of {} has the wrong type", schema.parameters[i].name, schema.name), "",
                   "export with the torch release that this build uses"};
    }
    if (pending) out.pending.emplace_back(static_cast<int>(i), std::move(*pending));
    given[i] = true;
    position = i + 1;
  }
  for (size_t i = 0; i < given.size(); ++i) {
    const Parameter& p = schema.parameters[i];
    if (!given[i] && !p.default_value)
      return Error{Code::kBadInput, fmt::format("{} lacks its argument '{}'", schema.name, p.name), "",
                   "export the model again"};
    if (!given[i]) out.args[i] = *p.default_value;
    if (p.type == Type::kDevice && out.args[i].kind == Arg::Kind::kDevice) out.args[i].s = "cpu";
  }
  return out;
}

}  // namespace autospc::import
