#include "compiler/import/embedding_ties.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <set>

namespace autospc::import {
namespace {

using ir::Graph;
using ir::Node;
using ir::ValueId;

// Whether the value comes from an input of the user (token ids, not an arange).
bool FromUser(const Graph& graph, ValueId v) {
  std::vector<ValueId> open = {v};
  std::set<ValueId> seen;
  while (!open.empty()) {
    const ValueId x = open.back();
    open.pop_back();
    if (!seen.insert(x).second) continue;
    if (const ir::GraphInput* in = graph.FindInput(x)) {
      if (in->kind == ir::InputKind::kUser) return true;
      continue;
    }
    for (const ValueId operand : graph.producer(x)->Operands()) open.push_back(operand);
  }
  return false;
}

// The parameter that is read as it is or transposed.
ValueId Untransposed(const Graph& graph, ValueId v) {
  const Node* node = graph.producer(v);
  const std::string_view name = node ? ir::ShortName(node->op) : "";
  return name == "t" || name == "transpose" || name == "permute" || name == "numpy_T" ? node->args[0].value : v;
}

struct Roles {
  std::vector<ValueId> embeddings, heads;  // parameters, in order of first use
};

Roles RolesOf(const Graph& graph) {
  Roles roles;
  const auto add = [&](std::vector<ValueId>& to, ValueId v) {
    const ir::GraphInput* in = graph.FindInput(v);
    if (!in || in->kind != ir::InputKind::kParameter || graph.value(v).rank() != 2) return;
    if (std::find(to.begin(), to.end(), v) == to.end()) to.push_back(v);
  };
  for (const ir::NodeId id : graph.nodes()) {
    const Node& node = graph.node(id);
    const std::string_view name = ir::ShortName(node.op);
    if (name == "embedding") {
      if (FromUser(graph, node.args[1].value)) add(roles.embeddings, node.args[0].value);
    } else if (name == "linear") {
      add(roles.heads, node.args[1].value);
    } else if ((name == "mm" || name == "matmul") && Untransposed(graph, node.args[1].value) != node.args[1].value) {
      add(roles.heads, Untransposed(graph, node.args[1].value));
    }
  }
  return roles;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> TieCandidates(const Graph& graph) {
  const Roles roles = RolesOf(graph);
  std::vector<std::pair<std::string, std::string>> pairs;
  for (const ValueId head : roles.heads) {
    const ir::Value& h = graph.value(head);
    for (const ValueId embedding : roles.embeddings) {
      const ir::Value& e = graph.value(embedding);
      if (head != embedding && h.sizes == e.sizes && h.dtype == e.dtype) {
        pairs.emplace_back(graph.FindInput(head)->name, graph.FindInput(embedding)->name);
      }
    }
  }
  return pairs;
}

Status TieEmbeddings(Model* model) {
  const auto candidates = TieCandidates(model->graph);
  if (candidates.size() == 1) return Tie(model, candidates[0].first, candidates[0].second);
  if (candidates.empty()) {
    const Roles roles = RolesOf(model->graph);
    for (const ValueId head : roles.heads) {
      if (std::find(roles.embeddings.begin(), roles.embeddings.end(), head) != roles.embeddings.end()) return Ok();
    }
    return Error{Code::kBadInput, "no output projection has the shape of an embedding, so nothing can be tied", "",
                 "compile without --tie-embeddings"};
  }
  std::vector<std::string> pairs;
  for (const auto& [head, embedding] : candidates) pairs.push_back(fmt::format("{} and {}", head, embedding));
  return Error{Code::kBadInput, fmt::format("several parameters could be tied: {}", fmt::join(pairs, "; ")), "",
               "give the checkpoint to the compiler with --weights, or export with the weights tied"};
}

}  // namespace autospc::import
