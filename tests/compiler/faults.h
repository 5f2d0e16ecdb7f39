// Planted faults: one part of a partitioned program is replaced by a plausible wrong one, which must be noticed. What a
// fault is, and the comparison with one device in float64 that it must fail. The table of all is in faults_test.cc.
#pragma once

#include <ATen/ops/norm.h>
#include <ATen/ops/sub.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "tests/compiler/run_ranks.h"

namespace autospc::testing {

// A program for P ranks before it is compiled, and what one device makes of it.
struct Case {
  ir::Graph graph;
  ConstantReader constants;
  Tensors stored, inputs;  // parameters, buffers and constants; the batch
  double loss = 0;
  Tensors gradients;
  int ranks = 2;
  std::string strategy = "ulysses";
  double tolerance = 1e-10;  // of the program without the fault: rounding in float64
};

// Changes a node; false: this node is not meant.
using Plant = std::function<bool(ir::Graph& graph, ir::Node& node)>;

// Who notices beside the comparison of numbers: the verifier of placements refuses the program as well.
enum class Typed { kNo, kYes };

struct Fault {
  std::string name;
  std::function<Result<Case>()> make;
  Plant partitioned;  // in the partitioned graph, before it is differentiated …
  Plant joint;        // … or in the joint one
  Typed typed = Typed::kNo;
};
inline void PrintTo(const Fault& fault, std::ostream* out) { *out << fault.name; }

// The worst error of the loss and the gradients on any rank. A gradient's is ||g - r|| / max(||r||, 1e-4 ||G||);
// NaN is infinite, a missing gradient an error of 1.
inline double WorstError(const Case& c, const std::vector<RankResult>& got) {
  const auto norm = [](const at::Tensor& t) { return t.norm().item<double>(); };
  double all = 0, worst = 0;
  for (const auto& [name, r] : c.gradients) all += norm(r) * norm(r);
  const auto take = [&](double error) {
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
  };
  for (const RankResult& rank : got) {
    take(std::abs(rank.loss - c.loss) / std::abs(c.loss));
    for (const auto& [name, r] : c.gradients) {
      const auto g = rank.gradients.find(name);
      if (g == rank.gradients.end())
        take(1);
      else
        take(norm(at::sub(g->second.to(at::kDouble), r)) / std::max(norm(r), 1e-4 * std::sqrt(all)));
    }
  }
  return worst;
}

inline bool PlantAll(const Plant& plant, ir::Graph& graph) {
  bool planted = false;
  const std::vector<ir::NodeId> nodes(graph.nodes().begin(), graph.nodes().end());
  for (const ir::NodeId id : nodes) planted = plant(graph, graph.node(id)) || planted;
  return planted;
}

// The program, with the fault or without it.
inline Result<CompiledGraph> CompileCase(const Fault& fault, const Case& c, bool plant, bool verify) {
  CompileHooks hooks;
  hooks.constants = c.constants;
  hooks.verify_placements = verify;
  const auto planter = [&](const Plant& change) -> std::function<void(ir::Graph&)> {
    if (!plant || !change) return {};
    return [&](ir::Graph& graph) { EXPECT_TRUE(PlantAll(change, graph)) << fault.name << " found no node to change"; };
  };
  hooks.partitioned = planter(fault.partitioned);
  hooks.joint = planter(fault.joint);
  return CompileGraph(c.graph, c.ranks, c.strategy, hooks);
}

inline Result<double> RunCase(const Case& c, const CompiledGraph& compiled) {
  ASSIGN_OR_RETURN(const std::vector<RankResult> got, RunRanks(compiled.program, c.stored, c.inputs));
  return WorstError(c, got);
}

inline void ExpectNoticed(const Fault& fault) {
  const auto c = fault.make();
  ASSERT_TRUE(c.ok()) << c.error().Format();
  const auto sound = CompileCase(fault, *c, /*plant=*/false, /*verify=*/true);
  ASSERT_TRUE(sound.ok()) << sound.error().Format();
  const auto right = RunCase(*c, *sound);
  ASSERT_TRUE(right.ok()) << right.error().Format();
  EXPECT_LE(*right, c->tolerance);
  // Of a fault, the numbers are to speak (or an error of the run): a hundred times the bound between right and wrong.
  const auto planted = CompileCase(fault, *c, /*plant=*/true, /*verify=*/false);
  ASSERT_TRUE(planted.ok()) << planted.error().Format();
  const auto wrong = RunCase(*c, *planted);
  if (wrong.ok()) {
    EXPECT_GT(*wrong, 100 * c->tolerance);
  }
  // It differs from what just compiled by the verification of placements alone.
  const auto verified = CompileCase(fault, *c, /*plant=*/true, /*verify=*/true);
  EXPECT_EQ(!verified.ok(), fault.typed == Typed::kYes) << (verified.ok() ? "it compiles" : verified.error().Format());
}

// The op is left out: its first operand's bytes, with an ordinary derivative.
inline bool LeaveOut(ir::Node& node, std::string_view op) {
  if (node.op != op) return false;
  node.op = "aten.alias.default";
  node.args.resize(1);
  return true;
}

// A node before `at`, of its phase and source, with a result of its own placement and row-major layout.
inline ir::ValueId Before(ir::Graph& graph, const ir::Node& at, std::string op, std::vector<ir::Arg> args,
                          ir::DType dtype, const std::vector<int64_t>& sizes, const ir::Placement& placement) {
  const std::vector<ir::Expr> exprs(sizes.begin(), sizes.end());
  const ir::ValueId v = graph.Emit(std::move(op), std::move(args), dtype, exprs, at.id, &at);
  graph.value(v).placement = placement;
  int64_t stride = 1;
  std::vector<ir::Expr> strides(sizes.size(), ir::Expr(1));
  for (size_t d = sizes.size(); d-- > 0; stride *= std::max<int64_t>(sizes[d], 1)) strides[d] = ir::Expr(stride);
  graph.value(v).strides = strides;
  return v;
}

// After its op has become one that makes a result of its own: no longer a view, and its views are views of it.
inline void OwnStorage(ir::Graph& graph, ir::ValueId v) {
  const ir::ValueId old = std::exchange(graph.value(v).base, ir::kNoValue);
  if (old == ir::kNoValue) return;
  const int64_t offset = std::exchange(graph.value(v).byte_offset, 0);
  std::vector<ir::ValueId> owned = {v};
  while (!owned.empty()) {
    const ir::ValueId x = owned.back();
    owned.pop_back();
    for (const ir::NodeId user : graph.Users(x)) {
      for (const ir::ValueId y : graph.node(user).results) {
        if (graph.value(y).base != old) continue;
        graph.value(y).base = v;
        graph.value(y).byte_offset -= offset;
        owned.push_back(y);
      }
    }
  }
}

}  // namespace autospc::testing
