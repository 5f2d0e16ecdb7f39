// Planted faults: each replaces one part of a partitioned program by a plausible wrong one, and must be noticed, by
// a verifier, by an error of the run, or by the comparison with one float64 device. Names as in the calculus.
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include <ATen/ops/empty.h>
#include <ATen/ops/norm.h>
#include <ATen/ops/sub.h>
#include <gtest/gtest.h>

#include "compiler/import/import.h"
#include "runtime/base/predicate.h"
#include "runtime/exec/call.h"
#include "runtime/package/dtype.h"
#include "runtime/package/safetensors.h"
#include "tests/compiler/run_ranks.h"

namespace autospc::testing {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;

struct Fault {
  const char* name;
  const char* model;  // models/NAME
  int ranks;
  const char* strategy;
  int64_t seq_len;
  // Changes a node of the partitioned graph; false: this node is not meant.
  std::function<bool(Graph& graph, Node& node)> plant;
};

// The conversion is left out: its operand's bytes, with an ordinary derivative.
bool LeaveOut(Node& node, std::string_view op) {
  if (node.op != op) return false;
  node.op = "aten.alias.default";
  node.args.resize(1);
  return true;
}

const std::vector<Fault>& Faults() {
  static const std::vector<Fault> faults = {
      {"VaryWithoutItsAllReduce", "gpt", 2, "ulysses", 61, [](Graph&, Node& n) { return LeaveOut(n, "autosp.vary"); }},
      {"TheLossIsNotReduced", "gpt", 2, "ulysses", 61, [](Graph&, Node& n) { return LeaveOut(n, "autosp.all_reduce"); }},
      {"AllGatherToVAdjointSlices", "gpt", 2, "allgather-kv", 61,
       [](Graph&, Node& n) {
         if (n.op != "autosp.all_gather") return false;
         n.args[3] = Arg::Bool(false);
         return true;
       }},
      {"PaddingLabelsCount", "encoder", 3, "ulysses", 61, [](Graph&, Node& n) { return LeaveOut(n, "autosp.mask"); }},
      {"PositionsOffByOne", "gpt", 3, "ulysses", 64,
       [](Graph&, Node& n) {
         if (n.op != "autosp.positions") return false;
         n.args[0] = Arg::Int(n.args[0].int_value() + 1);
         return true;
       }},
      {"RowsOfQueriesNotShifted", "gpt", 2, "allgather-kv", 61,
       [](Graph&, Node& n) {
         if (n.op != "autosp.attention") return false;
         n.args[6] = Arg::Bool(false);
         return true;
       }},
      {"AnotherKvHead", "gpt", 2, "ulysses", 61,
       [](Graph&, Node& n) {
         if (n.op != "autosp.attention") return false;
         bool changed = false;
         std::vector<int64_t> map = n.args[8].int_values();
         for (int64_t& head : map) changed = std::exchange(head, 0) != 0 || changed;
         n.args[8] = Arg::Ints(map);
         return changed;
       }},
      {"AWindowOffByOne", "window", 2, "ulysses", 61,
       [](Graph&, Node& n) {
         if (n.op != "autosp.attention") return false;
         auto predicate = Predicate::Parse(n.args[4].s);
         if (!predicate || predicate->kind != Predicate::Kind::kDiff || predicate->hi == Predicate::kMax) return false;
         ++predicate->hi;
         n.args[4] = Arg::String(predicate->ToString());
         return true;
       }},
      {"HeadsInAnotherOrder", "gpt", 2, "ulysses", 61,
       [](Graph&, Node& n) {
         if (n.op != "autosp.all_to_all" || n.args[1].int_value() != 1) return false;
         n.args[2] = Arg::Int(n.args[2].int_value() - 1);
         return true;
       }},
  };
  return faults;
}

std::filesystem::path Models() { return std::filesystem::path(AUTOSPC_SOURCE_DIR) / "models"; }

at::Tensor Load(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  at::Tensor t = at::empty(entry.sizes, exec::ToScalarType(entry.dtype));
  std::memcpy(t.mutable_data_ptr(), file.data(entry), static_cast<size_t>(entry.bytes));
  return t;
}

// The worst error of the loss and the gradients against the golden, on any rank, or why there is none.
// A gradient's is ||g - r|| / max(||r||, 1e-4 ||G||).
Result<double> WorstError(const Fault& fault, bool plant) {
  const std::string path = (Models() / fault.model / fault.model).string();
  ASSIGN_OR_RETURN(import::Model model, import::ImportPt2(path + ".pt2"));
  import::Bindings bindings;
  bindings.seq_len = fault.seq_len;
  RETURN_IF_ERROR(import::BindSizes(&model, bindings));
  CompileHooks hooks;
  hooks.constants = [&](const std::string& name) { return import::ReadWeight(model.weights.at(name)); };
  hooks.verify_placements = !plant;  // of a fault, the numbers are to speak
  if (plant) {
    hooks.partitioned = [&](Graph& graph) {
      bool planted = false;
      for (ir::NodeId id : graph.nodes()) planted = fault.plant(graph, graph.node(id)) || planted;
      EXPECT_TRUE(planted) << fault.name << " found no node to change";
    };
  }
  ASSIGN_OR_RETURN(const CompiledGraph compiled, CompileGraph(std::move(model.graph), fault.ranks, fault.strategy, hooks));

  Tensors stored, inputs, want;
  for (const auto& [name, source] : model.weights) {
    ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, import::ReadWeight(source));
    at::Tensor t = at::empty(source.sizes, exec::ToScalarType(source.dtype));
    std::memcpy(t.mutable_data_ptr(), bytes.data(), bytes.size());
    stored[name] = t;
  }
  ASSIGN_OR_RETURN(const SafetensorsFile golden, SafetensorsFile::Open(fmt::format("{}.golden_s{}.safetensors", path, fault.seq_len)));
  double all = 0, loss = 0;
  for (const SafetensorsEntry& entry : golden.entries()) {
    if (entry.name.starts_with("in.")) inputs[entry.name.substr(3)] = Load(golden, entry);
    if (entry.name == "loss") loss = Load(golden, entry).item<double>();
    if (!entry.name.starts_with("grad.")) continue;
    want[entry.name.substr(5)] = Load(golden, entry);
    const double norm = want[entry.name.substr(5)].norm().item<double>();
    all += norm * norm;
  }
  ASSIGN_OR_RETURN(const std::vector<RankResult> got, RunRanks(compiled.program, stored, inputs));
  double worst = 0;
  for (const RankResult& rank : got) {
    worst = std::max(worst, std::abs(rank.loss - loss) / std::abs(loss));
    for (const auto& [name, gradient] : rank.gradients) {
      const at::Tensor& r = want.at(name);
      const double error = at::sub(gradient.to(at::kDouble), r).norm().item<double>() / std::max(r.norm().item<double>(), 1e-4 * std::sqrt(all));
      worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(worst, error);
    }
  }
  return worst;
}

class PlantedFaults : public ::testing::TestWithParam<size_t> {};

TEST_P(PlantedFaults, IsNoticed) {
  const Fault& fault = Faults()[GetParam()];
  const auto right = WorstError(fault, false);
  ASSERT_TRUE(right.ok()) << right.error().Format();
  EXPECT_LE(*right, 1e-5);
  const auto wrong = WorstError(fault, true);
  // A hundred times the bound that tells right from wrong.
  if (wrong.ok()) EXPECT_GT(*wrong, 1e-3) << fault.name;
}

INSTANTIATE_TEST_SUITE_P(All, PlantedFaults, ::testing::Range<size_t>(0, Faults().size()),
                         [](const auto& info) { return std::string(Faults()[info.param].name); });

}  // namespace
}  // namespace autospc::testing
