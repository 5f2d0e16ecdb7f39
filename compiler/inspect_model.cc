#include <algorithm>
#include <map>

#include <fmt/ranges.h>
#include <nlohmann/json.hpp>

#include "compiler/import/import.h"
#include "compiler/inspect.h"
#include "compiler/text_table.h"
#include "runtime/base/bytes.h"
#include "runtime/base/json_text.h"

namespace autospc {
namespace {

using nlohmann::json;

constexpr size_t kOps = 30;

struct Totals {
  int64_t count = 0, elements = 0, bytes = 0, frozen = 0, without_data = 0;
  std::map<std::string, int64_t> bytes_by_type;
};

// Inputs of one kind. Their sizes are constants: parameters and buffers have no symbolic dim.
Totals TotalsOf(const import::Model& model, ir::InputKind kind) {
  Totals totals;
  for (const ir::GraphInput& input : model.graph.inputs) {
    if (input.kind != kind) continue;
    const ir::Value& value = model.graph.value(input.value);
    ++totals.count;
    totals.elements += value.numel();
    totals.bytes += value.bytes();
    totals.bytes_by_type[std::string(ir::Name(value.dtype))] += value.bytes();
    totals.frozen += kind == ir::InputKind::kParameter && !input.requires_grad;
    totals.without_data += !model.weights.contains(input.name);
  }
  return totals;
}

json Json(const Totals& totals) {
  return {{"count", totals.count}, {"elements", totals.elements}, {"bytes", totals.bytes}, {"frozen", totals.frozen},
          {"without_data", totals.without_data}, {"bytes_by_type", totals.bytes_by_type}};
}

std::vector<std::string> SizesOf(const ir::Value& value) {
  std::vector<std::string> sizes;
  for (const ir::Expr& size : value.sizes) sizes.push_back(size.ToString());
  return sizes;
}

// "i64 [2, s38]"
std::string TypeOf(const ir::Value& value) {
  return fmt::format("{} [{}]", ir::Name(value.dtype), fmt::join(SizesOf(value), ", "));
}

std::vector<std::pair<std::string, int64_t>> OpsOf(const ir::Graph& graph) {
  std::map<std::string, int64_t> counts;
  for (const ir::NodeId id : graph.nodes()) ++counts[graph.node(id).op];
  std::vector<std::pair<std::string, int64_t>> ops(counts.begin(), counts.end());
  std::stable_sort(ops.begin(), ops.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  return ops;
}

// "loss" for the one that is trained on, "output", or what is written back.
const char* KindName(ir::OutputKind kind) {
  switch (kind) {
    case ir::OutputKind::kLoss: return "loss";
    case ir::OutputKind::kUser: return "output";
    case ir::OutputKind::kBufferUpdate: return "buffer";
    default: return "update";
  }
}

json ModelJson(const import::Model& model) {
  const ir::Graph& graph = model.graph;
  json root = {{"name", graph.name}, {"torch", model.torch_version}, {"decomposed", model.decomposed},
               {"guards", model.guards.size()}, {"ties", model.ties}, {"warnings", model.warnings},
               {"parameters", Json(TotalsOf(model, ir::InputKind::kParameter))},
               {"buffers", Json(TotalsOf(model, ir::InputKind::kBuffer))},
               {"constants", Json(TotalsOf(model, ir::InputKind::kConstant))}};
  root["inputs"] = json::array();
  for (const ir::GraphInput& input : graph.inputs)
    if (input.kind == ir::InputKind::kUser) {
      const ir::Value& value = graph.value(input.value);
      root["inputs"].push_back({{"name", input.name}, {"dtype", ir::Name(value.dtype)}, {"sizes", SizesOf(value)}});
    }
  root["symbols"] = json::object();
  for (const auto& [name, range] : graph.symbols) {
    root["symbols"][name]["min"] = range.min;
    root["symbols"][name]["max"] = range.max < 0 ? json(nullptr) : json(range.max);
  }
  root["ops"] = json::object();
  for (const auto& [op, count] : OpsOf(graph)) root["ops"][op] = count;
  root["outputs"] = json::array();
  for (const ir::GraphOutput& output : graph.outputs) {
    const ir::Value& value = graph.value(output.value);
    root["outputs"].push_back({{"kind", KindName(output.kind)}, {"name", output.name}, {"dtype", ir::Name(value.dtype)},
                               {"sizes", SizesOf(value)}});
  }
  return root;
}

std::string ModelText(const import::Model& model) {
  const ir::Graph& graph = model.graph;
  std::string out;
  const auto line = [&](const std::string& text) { out += Clip(text, kTextWidth) + "\n"; };
  line(fmt::format("{}: exported by torch {}{}, {} nodes", graph.name,
                   model.torch_version.empty() ? "(unknown)" : model.torch_version,
                   model.decomposed ? ", decomposed" : "", graph.nodes().size()));
  out += "\nInputs\n";
  for (const ir::GraphInput& input : graph.inputs)
    if (input.kind == ir::InputKind::kUser) line(fmt::format("  {:<32} {}", input.name, TypeOf(graph.value(input.value))));
  for (const auto& [name, range] : graph.symbols)
    line(range.max < 0 ? fmt::format("  {} is at least {}", name, range.min)
                       : fmt::format("  {} is from {} to {}", name, range.min, range.max));
  if (!model.guards.empty()) line(fmt::format("  {} guards on these sizes", model.guards.size()));

  out += "\nData\n";
  const auto totals = [&](const char* what, ir::InputKind kind) {
    const Totals t = TotalsOf(model, kind);
    if (t.count == 0) return;
    std::string types;
    for (const auto& [type, bytes] : t.bytes_by_type) types += (types.empty() ? "" : ", ") + type;
    line(fmt::format("  {:<12}{:>8}{:>18} elements{:>14}  {}{}{}", what, t.count, t.elements, FormatBytes(t.bytes), types,
                     t.frozen > 0 ? fmt::format(", {} frozen", t.frozen) : "",
                     t.without_data > 0 ? fmt::format(", {} without data", t.without_data) : ""));
  };
  totals("parameters", ir::InputKind::kParameter);
  totals("buffers", ir::InputKind::kBuffer);
  totals("constants", ir::InputKind::kConstant);
  for (const auto& [name, first] : model.ties) line(fmt::format("  {} is {}", name, first));

  out += "\nOutputs\n";
  for (const ir::GraphOutput& output : graph.outputs)
    line(fmt::format("  {:<8}{:<32} {}", KindName(output.kind), output.name, TypeOf(graph.value(output.value))));

  out += "\nOps\n";
  const auto ops = OpsOf(graph);
  for (size_t i = 0; i < std::min(ops.size(), kOps); ++i) line(fmt::format("  {:>6}  {}", ops[i].second, ops[i].first));
  if (ops.size() > kOps) line(fmt::format("  and {} more ops (--json lists them all)", ops.size() - kOps));
  for (const std::string& warning : model.warnings) out += "\nwarning: " + warning + "\n";
  return out;
}

}  // namespace

std::string DescribeModel(const import::Model& model, bool as_json) {
  return as_json ? JsonText(ModelJson(model), 1) + "\n" : ModelText(model);
}

}  // namespace autospc
