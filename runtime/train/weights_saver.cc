#include "runtime/train/weights_saver.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "runtime/base/bytes.h"
#include "runtime/base/log.h"
#include "runtime/package/checkpoint.h"
#include "runtime/package/dtype.h"
#include "runtime/package/export_facts.h"
#include "runtime/package/ties.h"

namespace autospc::train {
namespace {

namespace fs = std::filesystem;
using checkpoint::SavedTensor;

Result<std::vector<std::vector<std::string>>> NamesOf(const program::ProgramT& program, const WeightOptions& weights,
                                                      const std::vector<SavedTensor>& tensors) {
  std::vector<std::vector<std::string>> names(tensors.size());
  if (!weights.weights.empty()) {
    std::vector<WantedTensor> wanted;
    for (const SavedTensor& t : tensors) wanted.push_back({t.name, t.dtype, t.sizes});
    ResolveOptions resolve;
    for (size_t i = 0; i + 1 < program.aliases.size(); i += 2) resolve.ties.emplace_back(program.aliases[i], program.aliases[i + 1]);
    resolve.prefix = weights.prefix;
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(weights.weights));
    ASSIGN_OR_RETURN(names, checkpoint.NamesOf(wanted, resolve));
  } else {
    std::map<std::string, std::vector<std::string>> compiled;
    for (const auto& [name, held] : ReadExportFacts(program).checkpoint_names) compiled[name].push_back(held);
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (const auto it = compiled.find(tensors[i].name); it != compiled.end()) names[i] = it->second;
    }
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (names[i].empty()) names[i] = {tensors[i].name};  // a buffer, say, that the checkpoint does not hold
  }
  return names;
}

// What transformers and a tokenizer read beside the weights.
std::vector<std::string> Companions(const std::string& weights) {
  std::vector<std::string> files;
  std::error_code error;
  if (weights.empty()) return files;
  const fs::path folder = fs::is_directory(weights, error) ? fs::path(weights) : fs::path(weights).parent_path();
  for (const char* name : {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model",
                           "special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt", "chat_template.jinja"}) {
    if (fs::is_regular_file(folder / name, error)) files.push_back((folder / name).string());
  }
  return files;
}

}  // namespace

Result<std::vector<SavedWeight>> PlanSavedWeights(const program::ProgramT& program, const WeightOptions& weights) {
  const checkpoint::Layout layout = checkpoint::MakeLayout(program, WrittenStorages(program));
  const bool narrowed = ReadExportFacts(program).narrowed;
  std::vector<SavedTensor> tensors;
  std::map<std::string, const SavedTensor*> masters;
  for (const SavedTensor& t : layout.tensors) {
    if (t.weight) tensors.push_back(t);
    if (!t.weight && narrowed && t.name.ends_with(".master")) masters[t.name.substr(0, t.name.size() - 7)] = &t;
  }
  ASSIGN_OR_RETURN(const auto names, NamesOf(program, weights, tensors));
  std::vector<SavedWeight> saved;
  for (size_t i = 0; i < tensors.size(); ++i) {
    SavedWeight weight{tensors[i], -1, 0, names[i]};
    if (const auto it = masters.find(tensors[i].name); it != masters.end()) {
      weight.master = it->second->tensor;
      weight.master_block = it->second->block;
    }
    // A parameter that nothing trains has no master; it is widened all the same, to be of the export's type.
    if (narrowed && weight.from.dtype == program::DType::BFloat16) weight.from.dtype = program::DType::Float32;
    saved.push_back(std::move(weight));
  }
  return saved;
}

Result<std::unique_ptr<WeightsSaver>> WeightsSaver::Make(const std::string& path, int64_t max_shard_bytes,
                                                         const WeightOptions& weights, exec::Executor* executor,
                                                         Communicator* communicator) {
  std::unique_ptr<WeightsSaver> saver(new WeightsSaver);
  saver->path_ = path;
  saver->executor_ = executor;
  saver->communicator_ = communicator;
  ASSIGN_OR_RETURN(saver->weights_, PlanSavedWeights(executor->program(), weights));
  saver->options_.max_shard_bytes = max_shard_bytes;
  saver->options_.write = communicator->rank() == 0;
  if (saver->options_.write) saver->options_.copies = Companions(weights.weights);
  if (saver->options_.write && !weights.weights.empty()) {
    ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(weights.weights));
    std::set<std::string> taken;
    for (const SavedWeight& weight : saver->weights_) taken.insert(weight.names.begin(), weight.names.end());
    for (const auto& [name, source] : checkpoint.tensors()) {
      if (!taken.contains(name)) saver->untrained_.push_back(source);
    }
  }
  const TieGroups ties(executor->program().aliases);
  for (const SavedWeight& weight : saver->weights_) {
    if (weight.names != std::vector<std::string>{weight.from.name}) continue;
    for (const std::string& other : ties.Names(weight.from.name)) {
      if (other != weight.from.name) saver->options_.ties[other] = weight.from.name;
    }
  }
  return saver;
}

TensorToWrite WeightsSaver::Tensor(const SavedWeight& weight, const std::string& name) const {
  TensorToWrite tensor{name, weight.from.dtype, weight.from.sizes, nullptr, nullptr};
  // Called in the same order on every rank, so that blocks can be gathered.
  tensor.produce = [this, &weight](const ByteSink& sink) -> Status {
    const int64_t n = weight.from.numel();
    if (n == 0) return Ok();
    const at::ScalarType type = exec::ToScalarType(weight.from.dtype);
    if (weight.master >= 0 && weight.master_block > 0) {
      const at::Tensor block = executor_->tensor(weight.master).cpu();
      at::Tensor all = at::empty({weight.master_block * communicator_->size()}, at::TensorOptions().dtype(block.scalar_type()));
      RETURN_IF_ERROR(communicator_->AllGather(block.const_data_ptr(), all.data_ptr(), static_cast<int64_t>(block.nbytes())));
      const at::Tensor whole = all.narrow(0, 0, n).to(type);
      return sink(whole.const_data_ptr(), static_cast<int64_t>(whole.nbytes()));
    }
    if (communicator_->rank() != 0) {
      const std::vector<std::byte> none(static_cast<size_t>(n * ByteSize(weight.from.dtype)));
      return sink(none.data(), static_cast<int64_t>(none.size()));
    }
    const at::Tensor& from = executor_->tensor(weight.master >= 0 ? weight.master : weight.from.tensor);
    const at::Tensor rows = from.to(type).contiguous().cpu();
    return sink(rows.const_data_ptr(), static_cast<int64_t>(rows.nbytes()));
  };
  return tensor;
}

Status WeightsSaver::OnEnd() {
  if (unless_ && unless_()) return Ok();
  std::vector<TensorToWrite> tensors;
  int64_t bytes = 0;
  for (const SavedWeight& weight : weights_) {
    for (const std::string& name : weight.names) tensors.push_back(Tensor(weight, name));
    bytes += weight.from.numel() * ByteSize(weight.from.dtype) * static_cast<int64_t>(weight.names.size());
  }
  if (options_.write) {
    for (const WeightSource& source : untrained_) tensors.push_back(FromSource(source));
  }
  Status saved = SaveWeights(path_, std::move(tensors), options_);
  if (!saved.ok()) {
    // The others may be amid a gathering: that this rank goes is what ends them.
    saved.error().what = "the weights could not be saved: " + saved.error().what;
    return saved;
  }
  RETURN_IF_ERROR(communicator_->Barrier());
  if (!options_.write) return Ok();
  Log(LogLevel::kInfo, fmt::format("saved {} of weights in {}", FormatBytes(bytes), path_));
  const bool config = std::any_of(options_.copies.begin(), options_.copies.end(),
                                  [](const std::string& file) { return file.ends_with("/config.json"); });
  if (!config) Log(LogLevel::kInfo, fmt::format("transformers wants the model's config.json beside them"));
  return Ok();
}

}  // namespace autospc::train
