#include "compiler/import/import.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "compiler/import/archive.h"
#include "compiler/import/graph_reader.h"
#include "compiler/import/scope.h"
#include "compiler/import/signature.h"
#include "runtime/base/json_text.h"
#include "runtime/package/dtype.h"

namespace autospc::import {
namespace {

using nlohmann::json;

constexpr int64_t kSchemaMajor = 8;
constexpr int64_t kMaxExpanded = int64_t{1} << 26;  // bytes of a tensor that holds elements more than once

Status CheckVersion(const json& program) {
  const json& version = program.at("schema_version");
  const int64_t major = Integer(version.at("major")), minor = Integer(version.at("minor"));
  if (major == kSchemaMajor) return Ok();
  return Error{
      Code::kBadInput,
      fmt::format("the export has schema version {}.{}, and this build reads {}.x", major, minor, kSchemaMajor), "",
      "export with torch 2.11"};
}

void ReadSymbols(const json& ranges, ir::Graph* graph) {
  for (const auto& [symbol, range] : ranges.items()) {
    ir::SymbolRange r;
    if (const auto it = range.find("min_val"); it != range.end() && it->is_number_integer()) r.min = Integer(*it);
    if (const auto it = range.find("max_val"); it != range.end() && it->is_number_integer()) r.max = Integer(*it);
    graph->symbols[symbol] = r;
  }
}

Status Read(const json& program, const Archive& archive, const ImportOptions& options, Model* model, std::string* place,
            GraphReader* reader) {
  *place = "schema_version";
  RETURN_IF_ERROR(CheckVersion(program));
  if (const auto v = program.find("torch_version"); v != program.end()) model->torch_version = v->get<std::string>();
  *place = "verifiers";
  for (const json& verifier : program.at("verifiers")) model->decomposed = model->decomposed || verifier != "TRAINING";
  if (model->decomposed) {
    model->warnings.push_back(
        "this is a decomposed export, which has lost the bounds of its no_grad regions: gradients may differ from the "
        "model's. "
        "Save the result of torch.export.export as it is");
  }
  *place = "range_constraints";
  ReadSymbols(program.at("range_constraints"), &model->graph);
  if (const auto guards = program.find("guards_code"); guards != program.end())
    model->guards = guards->get<std::vector<std::string>>();

  *place = "graph_module.signature.input_specs";
  const json& module = program.at("graph_module");
  model->graph.name = archive.root;
  SymCache cache;
  Scope scope(module.at("graph"), &cache);
  Signature signature(module, archive, model);
  RETURN_IF_ERROR(signature.AddInputs(&scope, reader));
  place->clear();
  RETURN_IF_ERROR(reader->ReadNodes(&scope));
  *place = "graph_module.signature.output_specs";
  RETURN_IF_ERROR(signature.AddOutputs(scope, options));
  model->graph.EliminateDeadCode();
  RETURN_IF_ERROR(signature.Finish());
  std::erase_if(model->pending, [&](const PendingNumber& p) { return !model->graph.has_node(p.node); });
  return Ok();
}

}  // namespace

Result<Model> ImportPt2(const std::string& path, const ImportOptions& options) {
  ASSIGN_OR_RETURN(const Archive archive, OpenArchive(path));
  Model model;
  GraphReader reader(&model);
  std::string place;
  const auto where = [&] { return place.empty() ? reader.place() : place; };
  // The JSON's own shape (a missing key, a wrong type) is the library's exception, met here for all readers.
  try {
    RETURN_IF_ERROR(CheckJsonDepth(archive.model_json, "models/model.json in " + path));
    const json program = json::parse(archive.model_json);
    Status status = Read(program, archive, options, &model, &place, &reader);
    if (!status.ok()) {
      Error e = std::move(status).error();
      if (e.where.empty()) e.where = where();
      e.where += e.where.empty() ? path : " in " + path;
      return e;
    }
  } catch (const json::parse_error& e) {
    return Error{Code::kBadInput, fmt::format("models/model.json is no JSON: {}", e.what()), path,
                 "export the model again with torch.export.save"};
  } catch (const json::exception& e) {
    return Error{Code::kBadInput, fmt::format("models/model.json has an unexpected shape: {}", e.what()),
                 where() + (where().empty() ? "" : " in ") + path, "export the model again with torch 2.11"};
  }
  return model;
}

Result<std::vector<uint8_t>> ReadWeight(const WeightSource& source) {
  const std::optional<int64_t> numel = CheckedNumel(source.sizes);
  int64_t size = 0;
  // A dim expanded from one row (stride 0) says its elements again and again: its file does not bound what they take.
  if (!numel || __builtin_mul_overflow(*numel, ByteSize(source.dtype), &size) ||
      size > std::max(source.bytes, kMaxExpanded)) {
    return Error{Code::kBadInput,
                 fmt::format("{} repeated from {} bytes is more than can be read", FormatSizes(source.sizes), source.bytes),
                 fmt::format("'{}' in {}", source.name, source.file), "export the tensor as it is, not expanded"};
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(size));
  RETURN_IF_ERROR(autospc::ReadWeight(source, source.dtype, bytes.data()));
  return bytes;
}

}  // namespace autospc::import
