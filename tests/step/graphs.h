// Joint graphs in text form, a pass over them with both verifiers behind it, and questions about the result.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "passes/ir/parser.h"
#include "passes/ir/printer.h"
#include "passes/ir/verifier.h"
#include "passes/step/register.h"

namespace autospc {

using ir::Graph;
using ir::Node;
using ir::ValueId;

inline Graph Parse(std::string_view text) {
  Result<Graph> graph = ir::Parse(text);
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.error().Format());
  EXPECT_TRUE(ir::Verify(*graph).empty()) << ir::Verify(*graph)[0];
  return std::move(*graph);
}

using Pass = Result<bool> (*)(Graph&, PassContext&);

inline bool RunPass(Pass pass, Graph& graph, PassContext& context) {
  const Result<bool> changed = pass(graph, context);
  EXPECT_TRUE(changed.ok()) << (changed.ok() ? "" : changed.error().Format());
  for (const std::string& violation : ir::Verify(graph)) ADD_FAILURE() << violation << "\n" << ir::Print(graph);
  for (const std::string& violation : ir::VerifyPlacements(graph))
    ADD_FAILURE() << violation << "\n" << ir::Print(graph);
  return changed.ok() && *changed;
}

inline std::vector<std::string> Ops(const Graph& graph) {
  std::vector<std::string> ops;
  for (ir::NodeId id : graph.nodes()) ops.push_back(graph.node(id).op);
  return ops;
}

inline int Position(const Graph& graph, const Node& node) {
  int i = 0;
  for (ir::NodeId id : graph.nodes()) {
    if (id == node.id) return i;
    ++i;
  }
  return -1;
}

inline std::vector<const Node*> Find(const Graph& graph, std::string_view op) {
  std::vector<const Node*> found;
  for (ir::NodeId id : graph.nodes()) {
    if (graph.node(id).op == op) found.push_back(&graph.node(id));
  }
  return found;
}

inline const ir::Value& OutputValue(const Graph& graph, ir::OutputKind kind, std::string_view name) {
  for (const ir::GraphOutput& out : graph.outputs) {
    if (out.kind == kind && out.name == name) return graph.value(out.value);
  }
  ADD_FAILURE() << "no output " << name;
  return graph.value(0);
}

// Three weights used once each, reduced in the order c, b, a.
inline constexpr std::string_view kThree = R"(graph @g {
  input %x : f32[4]{1} R user "x"
  input %a : f32[4]{1} R parameter "a" grad
  input %b : f32[2, 2]{2, 1} R parameter "b" grad
  input %c : f32[4]{1} R parameter "c" grad
  %va = autosp.vary(%a) : f32[4]{1} V base %a
  %vb = autosp.vary(%b) : f32[2, 2]{2, 1} V base %b
  %vc = autosp.vary(%c) : f32[4]{1} V base %c
  %l = aten.sum.default(%x, none) : f32[]{} R
  %s = autosp.shard(%x, 0, 2, true) : f32[2]{1} S(dim=0, valid=4, block=2, outer=1, inner=1)
  %pc = aten.new_zeros.default(%s, [4], none, none, none, none) : f32[4]{1} P !phase backward !src "m.py:3"
  %gc = autosp.all_reduce(%pc, "sum") : f32[4]{1} R !phase backward !src "m.py:3"
  %pb = aten.new_zeros.default(%s, [2, 2], none, none, none, none) : f32[2, 2]{2, 1} P !phase backward
  %tb = aten.t.default(%pb) : f32[2, 2]{1, 2} P base %pb !phase backward
  %gb = autosp.all_reduce(%tb, "sum") : f32[2, 2]{2, 1} R !phase backward
  %pa = aten.new_zeros.default(%s, [4], none, none, none, none) : f32[4]{1} P !phase backward
  %ga = autosp.all_reduce(%pa, "sum") : f32[4]{1} R !phase backward
  output loss %l "loss"
  output gradient %ga "a"
  output gradient %gb "b"
  output gradient %gc "c"
})";

}  // namespace autospc
