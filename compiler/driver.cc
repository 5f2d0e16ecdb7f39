#include "compiler/driver.h"

#include <chrono>
#include <set>

#include <nlohmann/json.hpp>

#include "codegen/lower.h"
#include "codegen/register_passes.h"
#include "compiler/autodiff/trace.h"
#include "passes/canonical/register.h"
#include "passes/step/register.h"
#include "runtime/base/files.h"
#include "runtime/outvariant/out_variant.h"
#include "runtime/package/checkpoint.h"
#include "runtime/package/oci.h"

namespace autospc {
namespace {

class Clock {
 public:
  double Lap() {
    const auto now = std::chrono::steady_clock::now();
    const double ms = std::chrono::duration<double, std::milli>(now - last_).count();
    last_ = now;
    return ms;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// A Hugging Face checkpoint with tied embeddings holds one tensor for both, and config.json beside it says so, while a
// weightless export may have lost the tie. The head that the checkpoint lacks then is the embedding of its shape.
Status TieHeadToEmbedding(const std::string& weights, const Checkpoint& checkpoint, import::Model* model) {
  const auto config = ReadFile(weights + "/config.json", int64_t{16} << 20);
  if (!config.ok()) return Ok();
  const auto json = nlohmann::json::parse(*config, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("tie_word_embeddings", nlohmann::json()) != true) return Ok();
  const ir::Graph& graph = model->graph;
  std::map<std::string, ir::ValueId> embeddings, heads;
  for (ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    const bool embedding = node.op == "aten.embedding.default", linear = node.op == "aten.linear.default";
    const ir::ValueId weight = embedding ? node.args[0].value : linear ? node.args[1].value : ir::kNoValue;
    const ir::GraphInput* in = weight == ir::kNoValue ? nullptr : graph.FindInput(weight);
    if (in && in->kind == ir::InputKind::kParameter) (embedding ? embeddings : heads)[in->name] = weight;
  }
  const auto holds = [&](const std::string& name, ir::ValueId v) {
    const ir::Value& value = graph.value(v);
    return checkpoint.Resolve({{name, static_cast<program::DType>(value.dtype), value.int_sizes()}}).ok();
  };
  std::vector<std::pair<std::string, std::string>> ties;
  for (const auto& [head, h] : heads) {
    if (holds(head, h)) continue;
    for (const auto& [embedding, e] : embeddings) {
      if (embedding != head && graph.value(e).sizes == graph.value(h).sizes && holds(embedding, e)) ties.emplace_back(head, embedding);
    }
  }
  if (ties.size() != 1) return Ok();  // what is missing is then listed
  return import::Tie(model, ties[0].first, ties[0].second);
}

// Sources of parameters (and persistent buffers that the checkpoint holds) from --weights.
Status TakeWeights(const CompileOptions& options, import::Model* model) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.weights));
  RETURN_IF_ERROR(TieHeadToEmbedding(options.weights, checkpoint, model));
  std::vector<WantedTensor> wanted;
  for (const ir::GraphInput& in : model->graph.inputs) {
    const bool buffer = in.kind == ir::InputKind::kBuffer && in.persistent && !model->weights.contains(in.name);
    if (in.kind != ir::InputKind::kParameter && !buffer) continue;
    const ir::Value& v = model->graph.value(in.value);
    wanted.push_back({in.name, static_cast<program::DType>(v.dtype), v.int_sizes()});
  }
  ResolveOptions resolve;
  resolve.prefix = options.weights_prefix;
  resolve.ties.assign(model->ties.begin(), model->ties.end());
  ASSIGN_OR_RETURN(const std::vector<WeightSource> sources, checkpoint.Resolve(wanted, resolve));
  for (const WeightSource& source : sources) model->weights[source.name] = source;
  return Ok();
}

// The options that shape the program, for the record; nothing of this machine.
std::string OptionsJson(const CompileOptions& options) {
  nlohmann::ordered_json json;
  json["ranks"] = options.context.ranks;
  json["strategy"] = options.context.strategy;
  json["strict"] = options.context.strict;
  json["optimizer"] = options.context.optimizer;
  if (options.context.clip_norm > 0) json["clip_norm"] = options.context.clip_norm;
  if (options.context.weight_decay >= 0) json["weight_decay"] = options.context.weight_decay;
  return json.dump();
}

}  // namespace

Result<Compiled> Compile(const CompileOptions& options) {
  PassRegistry registry;
  RegisterAllPasses(registry);
  PassManager manager(registry, options.passes);
  Compiled result;
  Clock clock;

  // 1. The export as a graph; sizes get their values, so that everything after knows its bytes.
  ASSIGN_OR_RETURN(import::Model model, import::ImportPt2(options.model, {options.loss}));
  ASSIGN_OR_RETURN(const import::Bound bound, import::BindSizes(&model, options.bindings));
  if (!options.weights.empty()) RETURN_IF_ERROR(TakeWeights(options, &model));
  RETURN_IF_ERROR(manager.Observe(model.graph, "import", clock.Lap()));
  result.warnings = model.warnings;

  PassContext context = options.context;
  context.constants = [&model](const std::string& name) -> Result<std::vector<uint8_t>> {
    const auto it = model.weights.find(name);
    if (it == model.weights.end()) return Error{Code::kBadInput, fmt::format("'{}' has no data in the export", name), "", ""};
    return import::ReadWeight(it->second);
  };

  // 2. Functional, attention as one op over a predicate; then one program for all ranks.
  std::vector<std::string> passes = CanonicalPipeline();
  passes.push_back("partition");
  RETURN_IF_ERROR(manager.Run(model.graph, context, passes));

  // 3. LibTorch's autograd over the partitioned forward gives the joint graph.
  clock.Lap();
  ASSIGN_OR_RETURN(ir::Graph graph, autodiff::Trace(model.graph));
  RETURN_IF_ERROR(manager.Observe(graph, "differentiate", clock.Lap()));

  // 4. Gradients reduced in buckets, the optimiser, buffers written back.
  RETURN_IF_ERROR(manager.Run(graph, context, StepPipeline()));

  // 5. Every byte at its place, and the instructions.
  clock.Lap();
  codegen::LowerOptions lower;
  lower.world_size = context.ranks;
  lower.seq_len = bound.seq_len;
  lower.batch = bound.batch;
  lower.compiler = "autospc " AUTOSPC_VERSION;
  lower.options = OptionsJson(options);
  lower.has_out = [](const std::string& op) { return OutVariant(op).has_value(); };
  ASSIGN_OR_RETURN(result.program, codegen::Lower(graph, context, lower));
  for (const auto& [alias, name] : model.ties) {
    result.program.aliases.push_back(alias);
    result.program.aliases.push_back(name);
  }
  result.timings = manager.timings();
  result.timings.push_back({"lower", clock.Lap(), 0, static_cast<int>(result.program.instructions.size()), true});

  std::set<std::string> names;
  for (const auto& storage : result.program.storages) names.insert(storage->name);
  for (const ir::GraphInput& in : graph.inputs) {
    const auto it = model.weights.find(in.name);
    if (it == model.weights.end() || !names.contains(in.name)) continue;
    (in.kind == ir::InputKind::kConstant ? result.constants : result.weights)[in.name] = it->second;
  }
  return result;
}

Status WriteCompiled(const Compiled& compiled, const std::string& path, bool force) {
  PackageContents contents;
  for (const auto& [name, source] : compiled.weights) contents.weights.push_back(source);
  for (const auto& [name, source] : compiled.constants) contents.constants.push_back(source);
  return WritePackage(compiled.program, contents, path, {force});
}

}  // namespace autospc
