#include "passes/recompute/rules.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <string_view>

namespace autospc::recompute {
namespace {

bool IsNumber(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c); });
}

bool IsCostly(std::string_view op) {
  static constexpr std::array<std::string_view, 13> kOps = {
      "mm", "bmm", "addmm", "baddbmm", "mv", "addmv", "dot", "matmul", "linear", "convolution",
      "_scaled_dot_product_flash_attention_for_cpu", "_scaled_dot_product_attention_math", "einsum"};
  static constexpr std::array<std::string_view, 7> kOwn = {"autosp.attention", "autosp.all_to_all", "autosp.all_gather",
                                                           "autosp.all_reduce", "autosp.reduce_scatter", "autosp.pad_last", "autosp.shard"};
  if (!op.starts_with("aten.")) return std::find(kOwn.begin(), kOwn.end(), op) != kOwn.end();
  return std::find(kOps.begin(), kOps.end(), ir::ShortName(op)) != kOps.end();
}

std::vector<bool> KeepLayers(const ir::Graph& graph, const Problem& problem) {
  std::vector<std::string> layer;
  for (const Item& item : problem.items) layer.push_back(LayerOf(graph.node(item.node).module));
  std::vector<bool> keep(problem.stores.size(), false);
  for (size_t s = 0; s < keep.size(); ++s) keep[s] = layer[problem.stores[s].maker].empty();
  for (int i = 0; i < problem.backward; ++i) {
    for (int s : problem.items[i].reads) {
      if (layer[problem.stores[s].maker] != layer[i]) keep[s] = true;
    }
  }
  return keep;
}

}  // namespace

std::string LayerOf(const std::string& module) {
  for (size_t from = 0; from < module.size();) {
    const size_t dot = std::min(module.find('.', from), module.size());
    if (IsNumber(std::string_view(module).substr(from, dot - from))) return module.substr(0, dot);
    from = dot + 1;
  }
  return "";
}

std::vector<bool> KeepBy(const std::string& rule, const ir::Graph& graph, const Problem& problem) {
  if (rule == "none") return std::vector<bool>(problem.stores.size(), true);
  if (rule == "full") return std::vector<bool>(problem.stores.size(), false);
  if (rule == "layers") return KeepLayers(graph, problem);
  if (rule != "autosp") std::abort();
  std::vector<bool> keep;
  for (const Store& s : problem.stores) keep.push_back(IsCostly(graph.node(problem.items[s.maker].node).op));
  return keep;
}

}  // namespace autospc::recompute
