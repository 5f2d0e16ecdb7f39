#include "compiler/import/scope.h"

#include <nlohmann/json.hpp>

#include "compiler/import/archive.h"

namespace autospc::import {
namespace {

using nlohmann::json;

const json& Table(const json& graph, const char* key) {
  static const json kEmpty = json::object();
  const auto it = graph.find(key);
  return it == graph.end() || it->is_null() ? kEmpty : *it;
}

Error Dangling(const std::string& name) {
  return {Code::kBadInput, fmt::format("the name '{}' is used and never defined", name), "", "export the model again"};
}

Result<ir::Expr> ReadSymInt(const json& v, SymCache* cache) {
  if (const auto it = v.find("as_int"); it != v.end()) return ir::Expr(Integer(*it));
  return cache->Expression(v.at("as_expr").at("expr_str").get_ref<const std::string&>());
}

}  // namespace

Result<ir::Expr> SymCache::Expression(const std::string& text) {
  const auto it = known_.find(text);
  if (it != known_.end()) return it->second;
  ASSIGN_OR_RETURN(const Sym sym, ParseSrepr(text));
  ASSIGN_OR_RETURN(ir::Expr e, ToExpr(sym));
  known_.emplace(text, e);
  return e;
}

Result<TensorMeta> ReadTensorMeta(const json& meta, SymCache* cache) {
  TensorMeta out;
  ASSIGN_OR_RETURN(out.dtype, ExportDType(Integer(meta.at("dtype"))));
  const auto& sizes = meta.at("sizes").get_ref<const json::array_t&>();
  const auto& strides = meta.at("strides").get_ref<const json::array_t&>();
  out.sizes.reserve(sizes.size());
  out.strides.reserve(strides.size());
  for (const json& v : sizes) {
    ASSIGN_OR_RETURN(ir::Expr e, ReadSymInt(v, cache));
    if (e.is_const() && e.value() < 0)
      return Error{Code::kBadInput, fmt::format("a dim has the size {}", e.value()), "", ""};
    out.sizes.push_back(std::move(e));
  }
  for (const json& v : strides) {
    ASSIGN_OR_RETURN(ir::Expr e, ReadSymInt(v, cache));
    out.strides.push_back(std::move(e));
  }
  if (out.sizes.size() != out.strides.size()) {
    return Error{Code::kBadInput,
                 fmt::format("a tensor has {} sizes and {} strides", out.sizes.size(), out.strides.size()), "", ""};
  }
  const int64_t layout = Integer(meta.at("layout"));
  if (layout != 7)
    return Error{Code::kUnsupported, "a tensor is sparse or has another layout than strided", "",
                 "make it dense before exporting"};
  out.device = meta.at("device").at("type").get<std::string>();
  out.requires_grad = meta.at("requires_grad").get<bool>();
  return out;
}

Scope::Scope(const json& g, SymCache* c)
    : graph(&g),
      cache(c),
      tensor_values(&Table(g, "tensor_values")),
      sym_ints(&Table(g, "sym_int_values")),
      sym_floats(&Table(g, "sym_float_values")),
      sym_bools(&Table(g, "sym_bool_values")) {}

Result<ir::ValueId> Scope::Tensor(const std::string& name) const {
  const auto it = tensors.find(name);
  if (it == tensors.end()) return Dangling(name);
  return it->second.value;
}

Result<ir::Expr> Scope::Int(const std::string& name) const {
  if (const auto it = ints.find(name); it != ints.end()) return it->second;
  const auto it = sym_ints->find(name);
  if (it == sym_ints->end()) return Dangling(name);
  return ReadSymInt(*it, cache);
}

Result<Sym> Scope::Number(const std::string& name) const {
  Sym sym;
  for (const json* table : {sym_floats, sym_bools, sym_ints}) {
    const auto it = table->find(name);
    if (it == table->end()) continue;
    if (const auto e = it->find("as_expr"); e != it->end()) {
      return ParseSrepr(e->at("expr_str").get_ref<const std::string&>());
    }
    if (const auto f = it->find("as_float"); f != it->end()) {
      sym.kind = Sym::Kind::kFloat;
      sym.f = f->get<double>();
    } else if (const auto b = it->find("as_bool"); b != it->end()) {
      sym.kind = Sym::Kind::kBool;
      sym.i = b->get<bool>();
    } else {
      sym.i = Integer(it->at("as_int"));
    }
    return sym;
  }
  return Dangling(name);
}

Result<TensorMeta> Scope::Meta(const std::string& name) const {
  const auto it = tensor_values->find(name);
  if (it == tensor_values->end()) {
    return Error{Code::kBadInput, fmt::format("tensor '{}' has no recorded shape", name), "", "export the model again"};
  }
  return ReadTensorMeta(*it, cache);
}

}  // namespace autospc::import
