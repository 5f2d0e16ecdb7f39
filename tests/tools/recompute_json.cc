// Problems of recomputation and the candidates found for them, as JSON lines, for tests/shows/optimum.py.
//
//   recompute_json random COUNT SEED LEAST MOST           random joint graphs of LEAST … MOST instructions
//   recompute_json slices FILE.ir FORWARD LEAST MOST      of a joint graph's text: each FORWARD instructions of the forward
//                                                         pass that follow each other, with what reads their results
//                                                         behind it, where that is LEAST … MOST instructions
// A slice's values from outside are its inputs, what is used outside are its outputs.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "codegen/cost.h"
#include "codegen/kernel_traits.h"
#include "passes/ir/parser.h"
#include "passes/memory/storage.h"
#include "passes/recompute/choose.h"
#include "runtime/base/files.h"
#include "runtime/outvariant/out_variant.h"
#include "tests/recompute/random_joint.h"

namespace autospc::recompute {
namespace {

using nlohmann::ordered_json;

void Print(const std::string& name, const ir::Graph& graph, const Problem& problem) {
  ordered_json json;
  json["name"] = name;
  json["backward"] = problem.backward;
  for (const Item& item : problem.items) {
    json["items"].push_back({{"op", graph.node(item.node).op}, {"reads", item.reads}, {"makes", item.makes}, {"in_place", item.in_place},
                             {"scratch", item.scratch}, {"seconds", item.seconds}, {"repeatable", item.repeatable}, {"before", item.before}});
  }
  for (const Store& s : problem.stores) json["stores"].push_back(s.bytes);
  for (const Candidate& c : FindCandidates(graph, problem, "auto")) {
    if (c.label == "none") {
      for (const Step& step : c.schedule.steps) json["order"].push_back(step.item);
    }
    json["candidates"].push_back({{"label", c.label}, {"peak", c.schedule.peak}, {"again", c.schedule.again_seconds}});
  }
  std::printf("%s\n", json.dump().c_str());
}

// The forward instructions [from, to) and the views between them, with the later nodes that read their results.
ir::Graph Slice(const ir::Graph& graph, int from, int to) {
  std::set<ir::ValueId> made;  // roots
  std::set<ir::NodeId> nodes;
  int at = 0;
  for (const ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    const std::vector<ir::ValueId> operands = node.Operands();
    const bool reads = std::any_of(operands.begin(), operands.end(), [&](ir::ValueId v) { return made.contains(memory::Root(graph, v)); });
    const bool forward = node.phase == ir::Phase::kForward, instruction = memory::IsInstruction(graph, node);
    const bool within = forward && instruction && at >= from && at < to;
    at += forward && instruction;
    if (!within && !(reads && (!forward || !instruction))) continue;
    nodes.insert(id);
    if (within) made.insert(node.results.begin(), node.results.end());
  }
  const auto inside = [&](const ir::Node& node) { return nodes.contains(node.id); };
  ir::Graph slice;
  std::map<ir::ValueId, ir::ValueId> now;
  const auto have = [&](ir::ValueId v) {
    if (now.contains(v)) return now[v];
    const ir::Value& value = graph.value(v);
    ir::GraphInput in;
    in.name = value.name;
    return now[v] = slice.AddInput(in, value.name, value.dtype, value.sizes, value.strides);
  };
  std::set<ir::ValueId> wanted;
  for (const ir::NodeId id : graph.nodes()) {
    const ir::Node& node = graph.node(id);
    if (!inside(node)) {
      for (const ir::ValueId v : node.Operands()) wanted.insert(v);
      continue;
    }
    std::vector<ir::Arg> args = node.args;
    for (ir::Arg& a : args) {
      if (a.is_value()) a.value = have(a.value);
      for (ir::ValueId& v : a.values) v = v == ir::kNoValue ? v : have(v);
    }
    std::vector<ir::ValueId> results;
    for (const ir::ValueId r : node.results) {
      const ir::Value& value = graph.value(r);
      const ir::ValueId base = value.base == ir::kNoValue ? ir::kNoValue : have(value.base);
      now[r] = slice.AddValue(value.name, value.dtype, value.sizes, value.strides);
      slice.value(now[r]).base = base;
      slice.value(now[r]).byte_offset = value.byte_offset;
      results.push_back(now[r]);
    }
    ir::Node& copy = slice.node(slice.AddNode(node.op, std::move(args), std::move(results)));
    copy.phase = node.phase;
    copy.module = node.module;
  }
  for (const ir::GraphOutput& out : graph.outputs) wanted.insert(out.value);
  for (const ir::ValueId v : wanted) {
    if (now.contains(v) && slice.value(now[v]).producer != ir::kNoNode) slice.outputs.push_back({now[v], ir::OutputKind::kUser, slice.value(now[v]).name});
  }
  return slice;
}

void Random(int count, unsigned seed, int least, int most) {
  std::mt19937 rng(seed);
  for (int made = 0; made < count;) {
    const ir::Graph graph = testing::RandomJoint(rng, 4 + static_cast<int>(rng() % 16));
    const Problem problem = Describe(graph, testing::Traits, testing::Cost);
    const int items = static_cast<int>(problem.items.size());
    if (items < least || items > most) continue;
    Print("random " + std::to_string(++made), graph, problem);
  }
}

int Slices(const std::string& file, int forward, int least, int most) {
  const Result<std::string> text = ReadFile(file, int64_t{1} << 30);
  if (!text.ok()) return std::fprintf(stderr, "%s\n", text.error().Format().c_str()), 3;
  const Result<ir::Graph> graph = ir::Parse(*text);
  if (!graph.ok()) return std::fprintf(stderr, "%s\n", graph.error().Format().c_str()), 3;
  const auto traits = codegen::KernelTraits(1, [](const std::string& op) { return OutVariant(op).has_value(); });
  const CostFn cost = codegen::KernelCosts(1, codegen::RatesOf("cpu"));
  int all = 0;
  for (const ir::NodeId id : graph->nodes()) all += graph->node(id).phase == ir::Phase::kForward && memory::IsInstruction(*graph, graph->node(id));
  for (int from = 0; from + forward <= all; from += forward) {
    const ir::Graph slice = Slice(*graph, from, from + forward);
    const Problem problem = Describe(slice, traits, cost);
    const int items = static_cast<int>(problem.items.size());
    if (items >= least && items <= most) Print(fmt::format("instructions {} to {}", from, from + forward - 1), slice, problem);
  }
  return 0;
}

}  // namespace
}  // namespace autospc::recompute

int main(int argc, char** argv) {
  const std::string what = argc == 6 ? argv[1] : "";
  if (what == "random") {
    autospc::recompute::Random(std::atoi(argv[2]), static_cast<unsigned>(std::atoi(argv[3])), std::atoi(argv[4]), std::atoi(argv[5]));
    return 0;
  }
  if (what == "slices") return autospc::recompute::Slices(argv[2], std::atoi(argv[3]), std::atoi(argv[4]), std::atoi(argv[5]));
  std::fprintf(stderr, "recompute_json random COUNT SEED LEAST MOST | slices FILE.ir FORWARD LEAST MOST\n");
  return 2;
}
