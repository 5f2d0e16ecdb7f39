#include "compiler/import/signature.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "compiler/import/output_names.h"

namespace autospc::import {
namespace {

using nlohmann::json;

Error Again(std::string what) {
  return {Code::kBadInput, std::move(what), "", "export the model again with torch.export.save"};
}

// Sizes as stored against sizes as the graph has them.
bool SameShape(const WeightSource& source, const TensorMeta& meta) {
  return ToProgram(meta.dtype) == source.dtype && source.sizes.size() == meta.sizes.size() &&
         std::equal(source.sizes.begin(), source.sizes.end(), meta.sizes.begin(),
                    [](int64_t a, const ir::Expr& b) { return b.is_const() && b.value() == a; });
}

std::string StorageKey(const Payload& p) {
  return fmt::format("{} {} {} {}|{}", p.member, p.storage_offset, static_cast<int>(p.source.dtype),
                     fmt::join(p.source.sizes, ","), fmt::join(p.source.strides, ","));
}

// Of parameters, buffers and constants: a user's input may have a name of theirs.
std::vector<ir::GraphInput>::iterator FindInput(ir::Graph* graph, const std::string& name) {
  return std::find_if(graph->inputs.begin(), graph->inputs.end(),
                      [&](const ir::GraphInput& in) { return in.name == name && in.kind != ir::InputKind::kUser; });
}

// Both are inputs of one shape and type.
void MergeInputs(Model* model, const std::string& name, const std::string& first) {
  ir::Graph& graph = model->graph;
  const auto from = FindInput(&graph, name), to = FindInput(&graph, first);
  to->requires_grad = to->requires_grad || from->requires_grad;
  graph.ReplaceUses(from->value, to->value);
  graph.EraseInput(ir::ValueId(from->value));
  for (auto& [alias, target] : model->ties) {
    if (target == name) target = first;
  }
  model->ties[name] = first;
  model->weights.erase(name);
}

std::string Leaf(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

Status Signature::AddTensorInput(const std::string& placeholder, ir::GraphInput input,
                                 const std::map<std::string, Payload>& payloads, Scope* scope, GraphReader* reader) {
  ASSIGN_OR_RETURN(const TensorMeta meta, scope->Meta(placeholder));
  input.requires_grad = input.kind == ir::InputKind::kParameter && meta.requires_grad;
  if (!names_.emplace(input.kind == ir::InputKind::kUser, input.name).second) {
    return Again(fmt::format("the signature has two inputs named '{}'", input.name));
  }
  if (input.kind != ir::InputKind::kUser) {
    const auto it = payloads.find(input.name);
    if (it == payloads.end() || !it->second.has_data) {
      no_data_[input.name] = it == payloads.end() ? "" : it->second.member;
    }
    if (it != payloads.end()) {
      if (!SameShape(it->second.source, meta)) {
        return Again(fmt::format("'{}' is stored with another shape or type than the graph uses", input.name));
      }
      if (it->second.has_data) {
        const auto [first, fresh] = first_of_storage_.emplace(StorageKey(it->second), input.name);
        if (!fresh) {
          const auto same = FindInput(&model_->graph, first->second);
          same->requires_grad = same->requires_grad || input.requires_grad;
          model_->ties[input.name] = first->second;
          reader->AddInput(scope, placeholder, same->value, meta);
          return Ok();
        }
        model_->weights[input.name] = it->second.source;
      }
    }
  }
  const ir::ValueId value = model_->graph.AddInput(std::move(input), placeholder, meta.dtype, meta.sizes, meta.strides);
  reader->AddInput(scope, placeholder, value, meta);
  return Ok();
}

Status Signature::AddInputs(Scope* scope, GraphReader* reader) {
  for (const json& spec : module_.at("signature").at("input_specs")) {
    const auto& tagged = spec.get_ref<const json::object_t&>();
    if (tagged.size() != 1) return Again("an input of the signature has no kind");
    const auto& [kind, v] = *tagged.begin();
    ir::GraphInput input;
    const auto placeholder = [&v = v]() { return v.at("arg").at("name").get<std::string>(); };
    if (kind == "parameter") {
      input.kind = ir::InputKind::kParameter;
      input.name = v.at("parameter_name").get<std::string>();
      RETURN_IF_ERROR(AddTensorInput(placeholder(), std::move(input), archive_.weights, scope, reader));
    } else if (kind == "buffer") {
      input.kind = ir::InputKind::kBuffer;
      input.name = v.at("buffer_name").get<std::string>();
      input.persistent = v.at("persistent").get<bool>();
      const auto& payloads = input.persistent ? archive_.weights : archive_.constants;
      RETURN_IF_ERROR(AddTensorInput(placeholder(), std::move(input), payloads, scope, reader));
    } else if (kind == "tensor_constant") {
      input.kind = ir::InputKind::kConstant;
      input.name = v.at("tensor_constant_name").get<std::string>();
      RETURN_IF_ERROR(AddTensorInput(placeholder(), std::move(input), archive_.constants, scope, reader));
    } else if (kind == "user_input") {
      const json& arg = v.at("arg");
      if (!arg.contains("as_tensor")) continue;  // numbers and None were specialised; sizes are in the tables
      input.kind = ir::InputKind::kUser;
      input.name = arg.at("as_tensor").at("name").get<std::string>();
      const std::string name = input.name;
      RETURN_IF_ERROR(AddTensorInput(name, std::move(input), {}, scope, reader));
    } else if (kind == "custom_obj") {
      return Error{Code::kUnsupported,
                   fmt::format("the model holds a script object, '{}'", v.at("custom_obj_name").get<std::string>()), "",
                   "export a model of tensors alone"};
    } else if (kind != "constant_input" && kind != "token") {
      return Error{Code::kUnsupported, fmt::format("an input of the signature is of kind '{}'", kind), "", ""};
    }
  }
  return Ok();
}

Status Signature::AddOutputs(const Scope& scope, const ImportOptions& options) {
  ir::Graph& graph = model_->graph;
  const json& specs = module_.at("signature").at("output_specs");
  const auto is_returned = [](const json& spec) { return spec.contains("user_output") || spec.contains("loss_output"); };
  const std::vector<std::string> keys =
      OutputNames(module_, static_cast<size_t>(std::count_if(specs.begin(), specs.end(), is_returned)));
  std::vector<Returned> all;
  std::vector<ir::GraphOutput> buffers;
  std::string marked;
  size_t place = 0;  // among what forward returns
  for (const json& spec : specs) {
    const auto& tagged = spec.get_ref<const json::object_t&>();
    if (tagged.size() != 1) return Again("an output of the signature has no kind");
    const auto& [kind, v] = *tagged.begin();
    if (kind == "user_output" || kind == "loss_output") {
      const std::string key = place < keys.size() ? keys[place] : "";
      ++place;
      const json& arg = kind == "loss_output"               ? v.at("arg")
                        : v.at("arg").contains("as_tensor") ? v.at("arg").at("as_tensor")
                                                            : json();
      if (arg.is_null()) continue;
      Returned returned{arg.at("name").get<std::string>(), key};
      ASSIGN_OR_RETURN(returned.value, scope.Tensor(returned.name));
      const ir::Value& tensor = graph.value(returned.value);
      returned.scalar = tensor.sizes.empty() && ir::IsFloating(tensor.dtype) && !ir::IsComplex(tensor.dtype);
      if (kind == "loss_output") marked = returned.name;
      all.push_back(std::move(returned));
    } else if (kind == "buffer_mutation") {
      ASSIGN_OR_RETURN(const ir::ValueId value, scope.Tensor(v.at("arg").at("name").get<std::string>()));
      buffers.push_back({value, ir::OutputKind::kBufferUpdate, v.at("buffer_name").get<std::string>()});
    } else if (kind == "user_input_mutation") {
      model_->warnings.push_back(fmt::format("the model writes to its input '{}': the write is dropped",
                                             v.at("user_input_name").get<std::string>()));
    } else if (kind == "parameter_mutation") {
      return Error{
          Code::kUnsupported,
          fmt::format("the forward pass writes to the parameter '{}'", v.at("parameter_name").get<std::string>()), "",
          "make it a buffer"};
    } else if (kind == "gradient_to_parameter" || kind == "gradient_to_user_input") {
      return Error{Code::kUnsupported, "this is a joint export, with the backward pass in it", "",
                   "export the forward pass alone: torch.export.export(model, …)"};
    } else if (kind != "token") {
      return Error{Code::kUnsupported, fmt::format("an output of the signature is of kind '{}'", kind), "", ""};
    }
  }
  RETURN_IF_ERROR(AddLoss(all, !options.loss.empty() ? options.loss : marked, options.log_outputs));
  RETURN_IF_ERROR(AddLogged(all, options.log_outputs));
  for (ir::GraphOutput& b : buffers) {
    if (const auto tie = model_->ties.find(b.name); tie != model_->ties.end()) b.name = tie->second;
    graph.outputs.push_back(std::move(b));
  }
  return Ok();
}

Status Signature::AddLoss(const std::vector<Returned>& all, const std::string& wanted,
                          const std::vector<std::string>& logged) {
  std::vector<const Returned*> scalars;
  std::vector<std::string> names, shown;
  for (const Returned& r : all) {
    names.push_back(r.name);
    const bool seen = std::any_of(scalars.begin(), scalars.end(), [&](const Returned* s) { return s->value == r.value; });
    if (r.scalar && !seen) scalars.push_back(&r);
  }
  for (const Returned* r : scalars) shown.push_back(r->shown());
  if (!wanted.empty()) {
    std::erase_if(scalars, [&](const Returned* r) { return !r->Is(wanted); });
    if (scalars.empty()) {
      return Error{Code::kBadInput, fmt::format("the export has no scalar output '{}'", wanted), "",
                   shown.empty() ? "return the loss from forward"
                                 : fmt::format("its scalar outputs are: {}", fmt::join(shown, ", "))};
    }
  } else {
    // What is to be logged is not the loss, if anything else can be.
    const auto is_logged = [&](const Returned* r) {
      return std::any_of(logged.begin(), logged.end(), [&](const std::string& name) { return r->Is(name); });
    };
    if (!std::all_of(scalars.begin(), scalars.end(), is_logged)) std::erase_if(scalars, is_logged);
  }
  if (scalars.empty()) {
    return Error{Code::kBadInput,
                 all.empty() ? std::string("the export has no tensor output")
                             : fmt::format("no output is a scalar loss: {}", fmt::join(names, ", ")),
                 "", "export a module whose forward returns the loss"};
  }
  if (scalars.size() > 1) {
    return Error{Code::kUsage, fmt::format("the export has several scalar outputs: {}", fmt::join(shown, ", ")), "",
                 fmt::format("name the loss: --loss {}", shown.front())};
  }
  model_->graph.outputs.push_back({scalars[0]->value, ir::OutputKind::kLoss, scalars[0]->name});
  return Ok();
}

Status Signature::AddLogged(const std::vector<Returned>& all, const std::vector<std::string>& logged) {
  for (const std::string& name : logged) {
    const auto found = std::find_if(all.begin(), all.end(), [&](const Returned& r) { return r.Is(name); });
    std::vector<std::string> scalars;
    for (const Returned& r : all) {
      if (r.scalar) scalars.push_back(r.shown());
    }
    const std::string hint = scalars.empty() ? "return it from forward" : fmt::format("its scalar outputs are: {}", fmt::join(scalars, ", "));
    if (found == all.end()) return Error{Code::kBadInput, fmt::format("--log-output: the export has no output '{}'", name), "", hint};
    if (!found->scalar) {
      return Error{Code::kBadInput, fmt::format("--log-output: '{}' is no floating-point number", name), "",
                   "return a scalar, as in (logits.argmax(-1) == labels).float().mean()"};
    }
    model_->graph.outputs.push_back({found->value, ir::OutputKind::kUser, name});
  }
  return Ok();
}

// Without data the file can't say which parameters are one. But all uses of a tied parameter go to its last name,
// so the module that owns another name uses one that is not its own: an embedding's node in module
// "model.embed_tokens" reads "lm_head.weight", and "model.embed_tokens.weight", of the same shape, is unused.
void Signature::TieWithoutData() {
  ir::Graph& graph = model_->graph;
  const auto users = graph.AllUsers();
  std::map<std::string, const ir::GraphInput*> unused;
  std::map<ir::ValueId, const ir::GraphInput*> used;
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.kind != ir::InputKind::kParameter || !no_data_.contains(in.name)) continue;
    if (users.contains(in.value))
      used[in.value] = &in;
    else
      unused[in.name] = &in;
  }
  std::map<std::string, std::string> ties;  // used name -> first name
  for (const ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    for (const ir::ValueId v : node.Operands()) {
      const auto it = used.find(v);
      if (it == used.end() || it->second->name == node.module + "." + Leaf(it->second->name)) continue;
      const auto own = unused.find(node.module + "." + Leaf(it->second->name));
      if (own == unused.end()) continue;
      const ir::Value &a = graph.value(v), &b = graph.value(own->second->value);
      if (a.dtype == b.dtype && a.sizes == b.sizes) ties.emplace(it->second->name, own->first);
    }
  }
  for (const auto& [name, first] : ties) {
    no_data_.erase(name);
    MergeInputs(model_, name, first);
  }
}

Status Signature::Finish() {
  ir::Graph& graph = model_->graph;
  TieWithoutData();
  const auto users = graph.AllUsers();
  std::set<ir::ValueId> live;
  for (const ir::GraphOutput& out : graph.outputs) live.insert(out.value);
  std::vector<ir::ValueId> dead;
  for (const ir::GraphInput& in : graph.inputs) {
    const bool used = users.contains(in.value) || live.contains(in.value);
    const bool data = in.kind == ir::InputKind::kBuffer || in.kind == ir::InputKind::kConstant;
    if (!used && data) dead.push_back(in.value);
    const bool in_checkpoint = in.kind == ir::InputKind::kBuffer && in.persistent;
    if (used && data && !in_checkpoint && no_data_.contains(in.name)) {
      return Error{
          Code::kBadInput,
          fmt::format("{} '{}' has no data in the file, and no checkpoint holds it",
                      in.kind == ir::InputKind::kBuffer ? "buffer" : "constant", in.name),
          "", "export with real buffers: build the model outside FakeTensorMode and make only its parameters fake"};
    }
  }
  for (const ir::ValueId v : dead) {
    const std::string name = graph.FindInput(v)->name;
    model_->weights.erase(name);
    std::erase_if(model_->ties, [&](const auto& tie) { return tie.second == name; });
    graph.EraseInput(v);
  }
  return Ok();
}

Status Tie(Model* model, const std::string& name, const std::string& first) {
  ir::Graph& graph = model->graph;
  for (const std::string& n : {name, first}) {
    if (FindInput(&graph, n) == graph.inputs.end())
      return Error{Code::kBadInput, fmt::format("the model has no parameter '{}'", n), "", ""};
  }
  const ir::Value &a = graph.value(FindInput(&graph, name)->value), &b = graph.value(FindInput(&graph, first)->value);
  if (name == first || a.dtype != b.dtype || a.sizes != b.sizes) {
    return Error{Code::kBadInput, fmt::format("'{}' and '{}' can't be one: their shapes differ", name, first), "", ""};
  }
  MergeInputs(model, name, first);
  return Ok();
}

}  // namespace autospc::import
