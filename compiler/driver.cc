#include "compiler/driver.h"

#include <set>

#include <nlohmann/json.hpp>

#include "codegen/cost.h"
#include "codegen/lower.h"
#include "codegen/memory_report.h"
#include "codegen/register_passes.h"
#include "compiler/autodiff/check_shapes.h"
#include "compiler/fastest.h"
#include "compiler/fit.h"
#include "compiler/import/data_contract.h"
#include "compiler/import/embedding_ties.h"
#include "passes/canonical/register.h"
#include "passes/step/decay.h"
#include "runtime/base/stopwatch.h"
#include "runtime/package/checkpoint.h"
#include "runtime/package/oci.h"
#include "runtime/package/tied_embeddings.h"

namespace autospc {
namespace {

WantedTensor Wanted(const ir::Graph& graph, const ir::GraphInput& in) {
  const ir::Value& v = graph.value(in.value);
  return {in.name, static_cast<program::DType>(v.dtype), v.int_sizes()};
}

// Makes one of a head and an embedding that the checkpoint ties and a weightless export has lost the tie of. Where it
// could be several, what is missing is listed later.
Status TieAsCheckpoint(const CompileOptions& options, const Checkpoint& checkpoint, import::Model* model) {
  std::map<std::string, WantedTensor> parameters;
  for (const ir::GraphInput& in : model->graph.inputs) {
    if (in.kind == ir::InputKind::kParameter) parameters[in.name] = Wanted(model->graph, in);
  }
  std::vector<TieCandidate> candidates;
  for (const auto& [head, embedding] : import::TieCandidates(model->graph)) {
    candidates.push_back({parameters.at(head), parameters.at(embedding)});
  }
  ASSIGN_OR_RETURN(const std::vector<TieCandidate> tied, TiedByCheckpoint(checkpoint, candidates, options.weights_prefix));
  return tied.size() == 1 ? import::Tie(model, tied[0].head.name, tied[0].embedding.name) : Ok();
}

// Pairs: a parameter or buffer, and a name that the checkpoint has for it.
using CheckpointNames = std::vector<std::pair<std::string, std::string>>;

// Sources of parameters (and persistent buffers that the checkpoint holds) from --weights; pairs of a name here and one
// that the checkpoint has for it, where they differ.
Result<CheckpointNames> TakeWeights(const CompileOptions& options, import::Model* model) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(options.weights));
  RETURN_IF_ERROR(TieAsCheckpoint(options, checkpoint, model));
  std::vector<WantedTensor> wanted;
  for (const ir::GraphInput& in : model->graph.inputs) {
    const bool buffer = in.kind == ir::InputKind::kBuffer && in.persistent && !model->weights.contains(in.name);
    if (in.kind != ir::InputKind::kParameter && !buffer) continue;
    wanted.push_back(Wanted(model->graph, in));
  }
  ResolveOptions resolve;
  resolve.prefix = options.weights_prefix;
  resolve.ties.assign(model->ties.begin(), model->ties.end());
  ASSIGN_OR_RETURN(const std::vector<WeightSource> sources, checkpoint.Resolve(wanted, resolve));
  for (const WeightSource& source : sources) model->weights[source.name] = source;
  ASSIGN_OR_RETURN(const auto names, checkpoint.NamesOf(wanted, resolve));
  CheckpointNames renamed;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (names[i] == std::vector<std::string>{wanted[i].name}) continue;
    for (const std::string& name : names[i]) renamed.emplace_back(wanted[i].name, name);
  }
  return renamed;
}

// The options that shape the program, for the record, and what saving wants to know of the export
// (runtime/package/export_facts.h); nothing of this machine.
std::string OptionsJson(const CompileOptions& options, int zero, const ir::Graph& graph, const CheckpointNames& names) {
  nlohmann::ordered_json json;
  json["ranks"] = options.context.ranks;
  if (options.context.dp > 1) json["dp"] = options.context.dp;
  json["strategy"] = options.context.strategy;
  json["strict"] = options.context.strict;
  if (options.tie_embeddings) json["tie_embeddings"] = true;
  if (!options.context.dtype.empty()) json["dtype"] = options.context.dtype;
  json["optimizer"] = options.context.optimizer;
  if (options.context.micro_batches > 1) json["accumulate"] = options.context.micro_batches;
  if (options.context.clip_norm > 0) json["clip_norm"] = options.context.clip_norm;
  if (options.context.weight_decay >= 0) json["weight_decay"] = options.context.weight_decay;
  if (!options.context.no_decay.empty()) json["no_decay"] = options.context.no_decay;
  if (options.context.memory_budget > 0) json["memory_budget"] = options.context.memory_budget;
  json["recompute"] = options.context.recompute;
  json["tile"] = options.context.tile;
  json["zero"] = zero;
  for (const ir::GraphInput& in : graph.inputs) {
    if (in.kind == ir::InputKind::kBuffer && !in.persistent) json["non_persistent_buffers"].push_back(in.name);
  }
  for (const auto& [name, held] : names) json["checkpoint_names"].push_back({name, held});
  return json.dump();
}

// What the runtime has to know to fill a batch.
void RecordDataContract(const import::DataContract& contract, program::ProgramT* program) {
  for (const auto& input : program->inputs) {
    for (const import::InputContract& found : contract.inputs) {
      if (found.name != input->name) continue;
      input->role = static_cast<program::InputRole>(found.role);
      input->limit = found.limit;
    }
  }
  program->label_shift = static_cast<program::LabelShift>(contract.shift);
  program->ignores_label = contract.ignore_index.has_value();
  program->ignore_index = contract.ignore_index.value_or(0);
}

// Everything after reading the export, which took so many milliseconds.
Result<Compiled> RunPhases(import::Model model, const CompileOptions& options, double import_milliseconds) {
  PassRegistry registry;
  RegisterAllPasses(registry);
  PassManager manager(registry, options.passes);
  Compiled result;
  Stopwatch clock;

  // 1. Sizes get their values, so that everything after knows its bytes.
  ASSIGN_OR_RETURN(const import::Bound bound, import::BindSizes(&model, options.bindings));
  RETURN_IF_ERROR(autodiff::CheckShapes(model.graph, autodiff::Refused::kPassedOver));
  if (options.tie_embeddings) RETURN_IF_ERROR(import::TieEmbeddings(&model));
  CheckpointNames checkpoint_names;
  if (!options.weights.empty()) {
    ASSIGN_OR_RETURN(checkpoint_names, TakeWeights(options, &model));
  }
  RETURN_IF_ERROR(step::Undecayed(model.graph, options.context));  // a mistake is said before the long work
  const auto tie_candidates = import::TieCandidates(model.graph);
  const import::DataContract data_contract = import::FindDataContract(model.graph);
  RETURN_IF_ERROR(manager.Observe(model.graph, "import", import_milliseconds + clock.Milliseconds()));
  result.warnings = model.warnings;

  PassContext context = options.context;
  context.constants = [&model](const std::string& name) -> Result<std::vector<uint8_t>> {
    const auto it = model.weights.find(name);
    if (it == model.weights.end()) return Error{Code::kBadInput, fmt::format("'{}' has no data in the export", name), "", ""};
    return import::ReadWeight(it->second);
  };

  // 2. Functional, attention as one op over a predicate; in bfloat16 what may be; then one program for all ranks.
  std::vector<std::string> passes = CanonicalPipeline();
  if (context.micro_batches > 1) passes.push_back("total-losses");
  if (!context.dtype.empty()) passes.push_back("mixed-precision");
  passes.push_back("partition");
  RETURN_IF_ERROR(manager.Run(model.graph, context, passes));

  // 3. LibTorch's autograd gives the joint graph, the step's passes its reductions and updates; of the forms in which
  // that can be had, and of what each may compute again, the fastest that fits.
  ASSIGN_OR_RETURN(Planned planned, FastestThatFits(model.graph, context, {options.device, options.machine}, options.curve, manager, &result.curve));

  const ir::Graph& graph = planned.graph;

  // 4. The instructions.
  Stopwatch lowering;
  codegen::LowerOptions lower;
  lower.mesh = context.mesh();
  lower.seq_len = bound.seq_len;
  lower.batch = bound.batch;
  lower.device = options.device;
  lower.compiler = "autospc " AUTOSPC_VERSION;
  lower.options = OptionsJson(options, context.zero, graph, checkpoint_names);
  lower.has_out = HasOut;
  lower.plan = std::move(planned.plan);
  ASSIGN_OR_RETURN(result.program, codegen::Lower(graph, context, lower));
  const int64_t budget = context.memory_budget;
  if (budget > 0 && !options.smallest_anyway && codegen::ReportMemory(result.program).total_bytes() > budget) {
    return DoesNotFit(result.program, budget, options.model);
  }
  if (budget > 0 && options.device == "cuda") {
    result.warnings.push_back("what LibTorch's kernels allocate inside on a GPU is not in the budget: leave some of the memory to it");
  }
  RecordDataContract(data_contract, &result.program);
  result.cost = codegen::CostOfStep(graph, context.mesh(), codegen::RatesOf(options.machine));
  for (const auto& [alias, name] : model.ties) {
    result.program.aliases.push_back(alias);
    result.program.aliases.push_back(name);
  }
  for (const auto& [head, embedding] : tie_candidates) {
    result.program.tie_candidates.push_back(head);
    result.program.tie_candidates.push_back(embedding);
  }
  result.timings = manager.timings();
  result.timings.push_back({"lower", lowering.Milliseconds(), 0, static_cast<int>(result.program.instructions.size()), true});

  std::set<std::string> names;
  for (const auto& storage : result.program.storages) names.insert(storage->name);
  for (const ir::GraphInput& in : graph.inputs) {
    const auto it = model.weights.find(in.name);
    if (it == model.weights.end() || !names.contains(in.name)) continue;
    (in.kind == ir::InputKind::kConstant ? result.constants : result.weights)[in.name] = it->second;
  }
  return result;
}

}  // namespace

Result<import::Model> ImportModel(const CompileOptions& options) { return import::ImportPt2(options.model, {options.loss, options.log_outputs}); }

Result<Compiled> CompileModel(const import::Model& model, const CompileOptions& options) {
  return RunPhases(model, options, 0);
}

Result<Compiled> Compile(const CompileOptions& options) {
  Stopwatch clock;
  ASSIGN_OR_RETURN(import::Model model, ImportModel(options));
  const double milliseconds = clock.Milliseconds();
  return RunPhases(std::move(model), options, milliseconds);
}

Status WriteCompiled(const Compiled& compiled, const std::string& path, bool force) {
  PackageContents contents;
  for (const auto& [name, source] : compiled.weights) contents.weights.push_back(source);
  for (const auto& [name, source] : compiled.constants) contents.constants.push_back(source);
  return WritePackage(compiled.program, contents, path, {force});
}

}  // namespace autospc
