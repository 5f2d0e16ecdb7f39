#include "compiler/import/graph_reader.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <nlohmann/json.hpp>

#include "compiler/import/archive.h"
#include "compiler/import/autocast.h"
#include "compiler/import/source.h"
#include "passes/ir/dims.h"

namespace autospc::import {
namespace {

using ir::Arg;
using ir::ValueId;
using nlohmann::json;

constexpr int kMaxDepth = 64;  // of regions within regions
constexpr std::string_view kPrefix = "torch.ops.", kHigherOrder = "higher_order.";

// Checks that hold no value of the model: what they assert, sizes and dtypes, is bound at compile time.
bool IsAssert(std::string_view op) {
  constexpr std::array<std::string_view, 8> kAsserts = {"_assert_tensor_metadata",
                                                        "_assert_scalar",
                                                        "_assert_async",
                                                        "_functional_assert_async",
                                                        "_functional_assert_scalar",
                                                        "sym_constrain_range",
                                                        "sym_constrain_range_for_size",
                                                        "_functional_sym_constrain_range"};
  return op.starts_with("aten.") && std::find(kAsserts.begin(), kAsserts.end(), ir::ShortName(op)) != kAsserts.end();
}

// A size, a float or a boolean computed from sizes: nodes that make no tensor. Their values are in the file's tables.
bool MakesSymbolsOnly(const json& outputs) {
  return !outputs.empty() && std::all_of(outputs.begin(), outputs.end(), [](const json& o) {
    return o.contains("as_sym_int") || o.contains("as_sym_float") || o.contains("as_sym_bool");
  });
}

// Names of IR values are [A-Za-z0-9_.]+.
std::string CleanName(const std::string& name) {
  std::string clean = name;
  for (char& c : clean) {
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '_' && c != '.') c = '_';
  }
  return clean;
}

const std::string& MetadataText(const json& node, const char* key) {
  static const std::string kEmpty;
  const auto metadata = node.find("metadata");
  if (metadata == node.end() || !metadata->is_object()) return kEmpty;
  const auto it = metadata->find(key);
  return it == metadata->end() || !it->is_string() ? kEmpty : it->get_ref<const std::string&>();
}

// A view's or expand's -1 says "as it comes out": the result's recorded sizes say it in full.
void ResolveMinusOne(std::string_view op, const TensorMeta& result, std::vector<Arg>* args) {
  static constexpr std::array<std::string_view, 9> kWhole = {
      "aten.view.default",         "aten.reshape.default",       "aten.expand.default",
      "aten._unsafe_view.default", "aten.view_copy.default",     "aten.expand_copy.default",
      "aten.broadcast_to.default", "aten._reshape_copy.default", "aten._reshape_alias.default"};
  const auto has_minus_one = [](const Arg& a) {
    return a.kind == Arg::Kind::kIntList &&
           std::any_of(a.ints.begin(), a.ints.end(), [](const ir::Expr& e) { return e.is_const() && e.value() == -1; });
  };
  if (args->size() >= 2 && std::find(kWhole.begin(), kWhole.end(), op) != kWhole.end()) {
    if (has_minus_one((*args)[1]) && (*args)[1].ints.size() == result.sizes.size()) (*args)[1].ints = result.sizes;
  } else if (op == "aten.unflatten.int" && args->size() == 3 && has_minus_one((*args)[2]) && (*args)[1].i.is_const()) {
    const size_t count = (*args)[2].ints.size();
    int64_t dim = (*args)[1].i.value();
    if (dim < 0) dim += static_cast<int64_t>(result.sizes.size() - count) + 1;
    if (dim >= 0 && dim + count <= result.sizes.size()) {
      std::copy_n(result.sizes.begin() + dim, count, (*args)[2].ints.begin());
    }
  }
}

Error At(Error e, const std::string& place) {
  if (e.where.empty()) e.where = place;
  return e;
}

}  // namespace

void GraphReader::SetDevice(ValueId value, const std::string& device) {
  if (devices_.size() <= static_cast<size_t>(value)) devices_.resize(value + 1);
  devices_[value] = device;
}

void GraphReader::AddInput(Scope* scope, const std::string& name, ValueId value, const TensorMeta& meta) {
  scope->tensors[name] = {value, false};
  SetDevice(value, meta.device);
}

Status GraphReader::ReadNodes(Scope* scope) {
  const json* previous = nullptr;
  for (const json& node : scope->graph->at("nodes")) {
    const auto name = node.find("name");
    const SourceLine source = SourceOf(MetadataText(node, "stack_trace"));
    source_ = source.Short();
    module_ = ModuleOf(MetadataText(node, "nn_module_stack"));
    const std::string& target = node.at("target").get_ref<const std::string&>();
    const json& outputs = node.at("outputs");
    // A node is known to its user by what it makes.
    std::string label = name != node.end() && name->is_string() ? name->get<std::string>() : target;
    place_ = source_.empty() ? fmt::format("node '{}'", label) : fmt::format("node '{}' ({})", label, source.Full());
    if (MakesSymbolsOnly(outputs)) continue;
    WarnOfSplitAutocast(node, previous);
    previous = &node;
    Status status = ReadNode(node, scope);
    if (!status.ok()) return At(std::move(status).error(), place_);
  }
  return Ok();
}

// torch.export drops torch.no_grad() inside of an autocast region. All that is left of it is that the region is cut
// where it began and ended.
void GraphReader::WarnOfSplitAutocast(const json& node, const json* previous) {
  constexpr std::string_view kAutocast = "torch.ops.higher_order.wrap_with_autocast";
  if (warned_of_autocast_ || !previous || node.at("target") != kAutocast || previous->at("target") != kAutocast) return;
  const json &a = node.at("inputs"), &b = previous->at("inputs");
  for (size_t i = 0; i < 4; ++i) {
    if (a.at(i).at("arg") != b.at(i).at("arg")) return;
  }
  warned_of_autocast_ = true;
  model_->warnings.push_back(
      "an autocast region is cut in two: if the model uses torch.no_grad() inside of autocast, torch.export has lost "
      "it and gradients "
      "will flow there. Use .detach() instead");
}

Status GraphReader::ReadNode(const json& node, Scope* scope) {
  std::string_view target = node.at("target").get_ref<const std::string&>();
  if (!target.starts_with(kPrefix)) {
    return Error{Code::kUnsupported, fmt::format("'{}' is no op of LibTorch", target), "",
                 "write it with torch functions, or register the op in C++"};
  }
  target.remove_prefix(kPrefix.size());
  if (target.starts_with(kHigherOrder)) return ReadRegion(target.substr(kHigherOrder.size()), node, scope);
  if (IsAssert(target)) return Ok();
  return ReadOp(std::string(target), node, scope);
}

Status GraphReader::ReadOp(const std::string& op, const json& node, Scope* scope) {
  const OpSchema* schema = FindOp(op);
  if (!schema) {
    return Error{Code::kUnsupported, fmt::format("LibTorch has no op '{}'", op), "",
                 "a Python custom op has no C++ kernel: write it with torch functions before exporting"};
  }
  const auto data_dependent = [&] {
    return Error{Code::kUnsupported, fmt::format("the shape that {} makes depends on data", op), "",
                 "make the shape a function of the inputs' shapes"};
  };
  // What a mask selects; the index ops also take indices, whose count is a shape. Others can be given theirs.
  const bool may_be_known = op.starts_with("aten.index.") || op.starts_with("aten.repeat_interleave.") || op == "aten.one_hot.default";
  if (schema->dynamic_shape && !may_be_known) return data_dependent();
  ASSIGN_OR_RETURN(ReadArgs read, ReadArguments(node.at("inputs"), *schema, *scope));
  if (schema->dynamic_shape && SelectsByData(*schema, read.args)) return data_dependent();
  return AddOp(*schema, std::move(read), node, scope);
}

bool GraphReader::SelectsByData(const OpSchema& schema, const std::vector<Arg>& args) const {
  for (size_t i = 0; i < args.size(); ++i) {
    if (schema.parameters[i].name == "output_size") return args[i].is_none();  // of repeat_interleave
    if (schema.parameters[i].name == "num_classes") return args[i].i == ir::Expr(-1);  // of one_hot
    if (schema.parameters[i].name != "indices") continue;
    return std::any_of(args[i].values.begin(), args[i].values.end(), [&](ValueId v) {
      return v != ir::kNoValue &&
             (graph_->value(v).dtype == ir::DType::kBool || graph_->value(v).dtype == ir::DType::kUInt8);
    });
  }
  return false;
}

Result<std::vector<std::pair<std::string, TensorMeta>>> GraphReader::ReadResults(const json& outputs,
                                                                                 const Scope& scope) const {
  std::vector<std::pair<std::string, TensorMeta>> results;
  const auto add = [&](const json& tensor) -> Status {
    const std::string& name = tensor.at("name").get_ref<const std::string&>();
    ASSIGN_OR_RETURN(TensorMeta meta, scope.Meta(name));
    results.emplace_back(name, std::move(meta));
    return Ok();
  };
  for (const json& output : outputs) {
    if (const auto one = output.find("as_tensor"); one != output.end()) {
      RETURN_IF_ERROR(add(*one));
    } else if (const auto many = output.find("as_tensors"); many != output.end()) {
      for (const json& tensor : *many) RETURN_IF_ERROR(add(tensor));
    } else {
      const auto& kinds = output.get_ref<const json::object_t&>();
      return Error{Code::kUnsupported,
                   fmt::format("a result is of kind '{}'", kinds.empty() ? "" : kinds.begin()->first), "", ""};
    }
  }
  return results;
}

Status GraphReader::AddOp(const OpSchema& schema, ReadArgs read, const json& node, Scope* scope) {
  ASSIGN_OR_RETURN(const auto results, ReadResults(node.at("outputs"), *scope));
  if (schema.results >= 0 && static_cast<size_t>(schema.results) != results.size()) {
    return Error{Code::kBadInput, fmt::format("{} makes {} results, and the file records {}", schema.name, schema.results, results.size()),
                 "", "export with the torch release that this build uses"};
  }
  if (!results.empty()) {
    ResolveMinusOne(schema.name, results[0].second, &read.args);
    if (!scope->autocast.empty()) RETURN_IF_ERROR(Autocast(schema, results[0].second.dtype, *scope, &read.args));
  }
  std::vector<ValueId> values;
  for (const auto& [name, meta] : results) {
    const ValueId v = graph_->AddValue(CleanName(name), meta.dtype, meta.sizes, meta.strides);
    SetDevice(v, meta.device);
    if (!scope->tensors.emplace(name, TensorRef{v, !scope->grad_enabled}).second) {
      return Error{Code::kBadInput, fmt::format("the name '{}' is defined twice", name), "", "export the model again"};
    }
    values.push_back(v);
  }
  const ir::NodeId id = graph_->AddNode(schema.name, std::move(read.args), std::move(values));
  graph_->node(id).source = source_;
  graph_->node(id).module = module_;
  for (auto& [arg, sym] : read.pending) model_->pending.push_back({id, arg, std::move(sym)});
  if (const std::string wrong = ir::WrongDims(*graph_, graph_->node(id)); !wrong.empty())
    return Error{Code::kBadInput, fmt::format("{} can't be: {}", schema.name, wrong), ir::Where(*graph_, graph_->node(id)), "export the model again"};
  return Ok();
}

Status GraphReader::Autocast(const OpSchema& schema, ir::DType result, const Scope& scope, std::vector<Arg>* args) {
  for (const auto& entry : scope.autocast) {
    const auto& device = entry.first;  // by name: Clang 14's lambdas can't capture structured bindings
    const auto& state = entry.second;
    const auto dtype = [&](ValueId v) { return graph_->value(v).dtype; };
    const auto eligible = [&](ValueId v) {
      const ir::DType t = dtype(v);
      return ir::IsFloating(t) && !ir::IsComplex(t) && t != ir::DType::kFloat64 && devices_[v] == device;
    };
    const auto cast = [&](ValueId v, ir::DType t) {
      return Cast(v, t, state.cache && t == state.dtype, scope.grad_enabled);
    };
    RETURN_IF_ERROR(ApplyAutocast(schema, device, state.dtype, result, {eligible, dtype, cast}, args));
  }
  return Ok();
}

ValueId GraphReader::Cast(ValueId value, ir::DType dtype, bool cache, bool grad_enabled) {
  const ir::GraphInput* input = graph_->FindInput(value);
  cache = cache && input && input->kind == ir::InputKind::kParameter && input->requires_grad;
  const std::tuple key(value, dtype, grad_enabled);
  if (const auto it = cast_cache_.find(key); cache && it != cast_cache_.end()) return it->second;
  // to.dtype(self, dtype, non_blocking, copy, memory_format)
  const ValueId v = graph_->Emit("aten.to.dtype",
                                 {Arg::Value(value), Arg::Type(dtype), Arg::Bool(false), Arg::Bool(false), Arg::None()},
                                 dtype, graph_->value(value).sizes);
  ir::Node& node = graph_->node(graph_->value(v).producer);
  node.source = source_;
  node.module = module_;
  SetDevice(v, std::string(devices_[value]));
  if (cache) cast_cache_[key] = v;
  return v;
}

ValueId GraphReader::StopGradient(ValueId value) {
  const ir::Value& from = graph_->value(value);
  if (!ir::IsFloating(from.dtype)) return value;
  const std::vector<ir::Expr> sizes = from.sizes, strides = from.strides;
  const ValueId v = graph_->Emit("autosp.stop_gradient", {Arg::Value(value)}, from.dtype, sizes, ir::kNoNode,
                                 graph_->producer(value));
  graph_->value(v).strides = strides;
  SetDevice(v, std::string(devices_[value]));
  return v;
}

Status GraphReader::BindRegionInputs(const json& inputs, size_t first, const Scope& outer, Scope* body) {
  const json& names = body->graph->at("inputs");
  if (inputs.size() - first != names.size()) {
    return Error{Code::kBadInput,
                 fmt::format("a region takes {} inputs and is given {}", names.size(), inputs.size() - first), "",
                 "export the model again"};
  }
  for (size_t i = 0; i < names.size(); ++i) {
    const json& given = inputs[first + i].at("arg");
    if (const auto tensor = names[i].find("as_tensor"); tensor != names[i].end()) {
      const auto it = outer.tensors.find(given.at("as_tensor").at("name").get_ref<const std::string&>());
      if (it == outer.tensors.end()) return outer.Tensor(given.at("as_tensor").at("name").get<std::string>()).error();
      TensorRef ref = it->second;
      // A region with gradients inside one without: what comes in has none.
      if (ref.no_grad && body->grad_enabled && !outer.grad_enabled) ref = {StopGradient(ref.value), false};
      body->tensors[tensor->at("name").get<std::string>()] = ref;
    } else if (const auto size = names[i].find("as_sym_int"); size != names[i].end() && size->contains("as_name")) {
      const std::string name = size->at("as_name").get<std::string>();
      if (const auto it = given.find("as_int"); it != given.end()) {
        body->ints[name] = ir::Expr(Integer(*it));
      } else if (given.at("as_sym_int").contains("as_int")) {
        body->ints[name] = ir::Expr(Integer(given.at("as_sym_int").at("as_int")));
      } else {
        ASSIGN_OR_RETURN(body->ints[name], outer.Int(given.at("as_sym_int").at("as_name").get<std::string>()));
      }
    }
  }
  return Ok();
}

Status GraphReader::BindRegionOutputs(const json& node, const Scope& body, Scope* outer) {
  std::vector<const json*> made, taken;
  const auto flatten = [](const json& list, std::vector<const json*>* out) {
    for (const json& item : list) {
      if (const auto many = item.find("as_tensors"); many != item.end()) {
        for (const json& tensor : *many) out->push_back(&tensor);
      } else if (const auto one = item.find("as_tensor"); one != item.end()) {
        out->push_back(&*one);
      } else {
        out->push_back(nullptr);  // sizes are in the tables
      }
    }
  };
  flatten(body.graph->at("outputs"), &made);
  flatten(node.at("outputs"), &taken);
  if (made.size() != taken.size()) {
    return Error{Code::kBadInput, fmt::format("a region makes {} results and {} are taken", made.size(), taken.size()),
                 "", "export the model again"};
  }
  for (size_t i = 0; i < made.size(); ++i) {
    if (!made[i] || !taken[i]) continue;
    const std::string& inner = made[i]->at("name").get_ref<const std::string&>();
    const auto it = body.tensors.find(inner);
    if (it == body.tensors.end()) return body.Tensor(inner).error();
    TensorRef ref = it->second;
    if (ref.no_grad && outer->grad_enabled) ref = {StopGradient(ref.value), false};
    outer->tensors[taken[i]->at("name").get<std::string>()] = ref;
  }
  return Ok();
}

Status GraphReader::ReadRegion(std::string_view op, const json& node, Scope* scope) {
  const json& inputs = node.at("inputs");
  const bool set_grad = op == "wrap_with_set_grad_enabled", autocast = op == "wrap_with_autocast";
  if (!set_grad && !autocast) {
    return Error{Code::kUnsupported, fmt::format("the higher-order op '{}' has no meaning here", op), "",
                 "export the model without it"};
  }
  const auto arg = [&](size_t i) -> const json& { return inputs.at(i).at("arg"); };
  const size_t graph_at = set_grad ? 1 : 4;
  if (inputs.size() <= graph_at) return Error{Code::kBadInput, "a region lacks its body", "", "export the model again"};
  Scope body(arg(graph_at).at("as_graph").at("graph"), scope->cache);
  body.grad_enabled = scope->grad_enabled;
  body.autocast = scope->autocast;
  if (set_grad) {
    body.grad_enabled = arg(0).at("as_bool").get<bool>();
  } else {
    // autocast(device_type, dtype=None, enabled=True, cache_enabled=None)
    const std::string device = arg(0).at("as_string").get<std::string>();
    body.autocast.erase(device);
    if (arg(2).at("as_bool").get<bool>()) {
      AutocastState state;
      state.dtype = device == "cpu" ? ir::DType::kBFloat16 : ir::DType::kFloat16;
      if (const auto dtype = arg(1).find("as_scalar_type"); dtype != arg(1).end()) {
        ASSIGN_OR_RETURN(state.dtype, ExportDType(Integer(*dtype)));
      }
      state.cache = !arg(3).contains("as_bool") || arg(3).at("as_bool").get<bool>();
      body.autocast[device] = state;
    }
    ++autocast_depth_;
  }
  if (++depth_ > kMaxDepth) return Error{Code::kBadInput, "regions are nested too deep", "", "export the model again"};
  const std::string place = place_;
  RETURN_IF_ERROR(BindRegionInputs(inputs, graph_at + 1, *scope, &body));
  RETURN_IF_ERROR(ReadNodes(&body));
  place_ = place;
  --depth_;
  if (autocast && --autocast_depth_ == 0) cast_cache_.clear();
  return BindRegionOutputs(node, body, scope);
}

}  // namespace autospc::import
