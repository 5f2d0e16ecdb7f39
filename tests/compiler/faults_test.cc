// Planted faults in models/: each replaces one part of a partitioned program by a plausible wrong one, and must be
// noticed by the comparison with one float64 device or by an error of the run; who the verifier of placements refuses
// as well is stated with each. FaultsOfModels in graphs built for them are in graph_faults_test.cc.
//
// The faults that the executable form of the calculus plants, and the test here that must turn red ("M": PlantedFaults
// in this file, "G": GraphFaults):
//
//   vary without its all-reduce          M VaryWithoutItsAllReduce
//   the step reduces again               G TheStepReducesAgain
//   all-reduce's adjoint reduces         G AllReducesAdjointReduces
//   a replicated op reads the vary       G AReplicatedOpReadsTheVary
//   all-gather's adjoint sums            G AllGathersAdjointSums
//   all-gather to V: adjoint slices      M AllGatherToVAdjointSlices
//   duplicate kv heads overwrite         G DuplicateKvHeadsOverwrite
//   padding with zeros                   G PaddingWithZeros
//   padding repeated in adjoints         G PaddingRepeatedInAdjoints, M PaddingRepeatedInAdjoints
//   no padding anew after x[:, :-1]      G NoPaddingAnewAfterASlice
//   no padding anew after a stencil      none: stencils are gathered and computed whole, there is no halo
//   halo not returned                    none: as above
//   positions not clamped                G PositionsNotClamped
//   labels shifted by shard              G LabelsShiftedByShard
//   padding labels count                 M PaddingLabelsCount
//   mean of rank means, tokens           G MeanOfRankMeansOverTokens
//   mean of micro-batch means            none: a step has one batch
//   mean of rank means, sequence         G MeanOfRankMeansOverTheSequence
//   sums count padding                   G SumsCountPadding
//   max, prod, logsumexp see padding     G LogSumExpSeesPadding (the others are gathered and computed whole)
//   ties shared by rank                  G TiesSharedByRank
//   P + R on every rank                  G PPlusROnEveryRank
//   any op accepts P                     G AnyOpAcceptsP, M TheLossIsNotReduced
//   [B*S] gathered as it lies            G FlatRowsGatheredAsTheyLie
//   dropout by local index               G DropoutByLocalIndex
//
// Beyond those: G SeedOneOverP, G MaskedByAProductWithInfinity, M PositionsOffByOne, RowsOfQueriesNotShifted,
// AnotherKvHead, AWindowOffByOne, HeadsInAnotherOrder; a predicate's block skipped wrongly is
// PredicateTiles.ABlockSkippedWronglyIsCaught, a buffer reused too early Check.ABufferReusedTooEarly.
#include "tests/compiler/faults.h"

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <set>
#include <string>

#include "compiler/import/import.h"
#include "runtime/base/predicate.h"
#include "runtime/exec/call.h"
#include "runtime/package/dtype.h"
#include "runtime/package/safetensors.h"

namespace autospc::testing {
namespace {

using ir::Arg;
using ir::Graph;
using ir::Node;

std::filesystem::path Models() { return std::filesystem::path(AUTOSPC_SOURCE_DIR) / "models"; }

at::Tensor Load(const SafetensorsFile& file, const SafetensorsEntry& entry) {
  at::Tensor t = at::empty(entry.sizes, exec::ToScalarType(entry.dtype));
  std::memcpy(t.mutable_data_ptr(), file.data(entry), static_cast<size_t>(entry.bytes));
  return t;
}

// models/NAME at S = seq_len, with its golden file.
Result<Case> ModelCase(const std::string& name, int ranks, const std::string& strategy, int64_t seq_len) {
  const std::string path = (Models() / name / name).string();
  ASSIGN_OR_RETURN(import::Model model, import::ImportPt2(path + ".pt2"));
  import::Bindings bindings;
  bindings.seq_len = seq_len;
  RETURN_IF_ERROR(import::BindSizes(&model, bindings));
  Case c;
  c.ranks = ranks;
  c.strategy = strategy;
  c.tolerance = 1e-5;  // the models compute in float32
  for (const auto& [weight, source] : model.weights) {
    ASSIGN_OR_RETURN(const std::vector<uint8_t> bytes, import::ReadWeight(source));
    at::Tensor t = at::empty(source.sizes, exec::ToScalarType(source.dtype));
    std::memcpy(t.mutable_data_ptr(), bytes.data(), bytes.size());
    c.stored[weight] = t;
  }
  c.constants = [weights = model.weights](const std::string& constant) {
    return import::ReadWeight(weights.at(constant));
  };
  ASSIGN_OR_RETURN(const SafetensorsFile golden,
                   SafetensorsFile::Open(fmt::format("{}.golden_s{}.safetensors", path, seq_len)));
  for (const SafetensorsEntry& entry : golden.entries()) {
    if (entry.name.starts_with("in.")) c.inputs[entry.name.substr(3)] = Load(golden, entry);
    if (entry.name == "loss") c.loss = Load(golden, entry).item<double>();
    if (entry.name.starts_with("grad.")) c.gradients[entry.name.substr(5)] = Load(golden, entry);
  }
  c.graph = std::move(model.graph);
  return c;
}

std::function<Result<Case>()> Of(const std::string& model, int ranks, const std::string& strategy, int64_t seq_len) {
  return [=] { return ModelCase(model, ranks, strategy, seq_len); };
}

const std::vector<Fault>& FaultsOfModels() {
  using enum Typed;
  static const std::set<std::string> kSlicing = {"autosp.shard", "autosp.reduce_scatter", "autosp.all_to_all"};
  static const std::vector<Fault> faults = {
      {"VaryWithoutItsAllReduce",
       Of("gpt", 2, "ulysses", 61),
       [](Graph&, Node& n) { return LeaveOut(n, "autosp.vary"); },
       {},
       kYes},
      {"TheLossIsNotReduced",
       Of("gpt", 2, "ulysses", 61),
       [](Graph&, Node& n) { return LeaveOut(n, "autosp.all_reduce"); },
       {},
       kYes},
      {"AllGatherToVAdjointSlices",
       Of("gpt", 2, "allgather-kv", 61),
       [](Graph&, Node& n) {
         if (n.op != "autosp.all_gather") return false;
         n.args[3] = Arg::Bool(false);
         return true;
       },
       {},
       kYes},
      {"PaddingRepeatedInAdjoints",
       Of("encoder", 3, "ulysses", 61),
       {},
       [](Graph&, Node& n) {
         if (!kSlicing.contains(n.op) || n.phase != ir::Phase::kBackward) return false;
         n.args.back() = Arg::Bool(false);
         return true;
       }},
      {"PaddingLabelsCount",
       Of("encoder", 3, "ulysses", 61),
       [](Graph&, Node& n) { return LeaveOut(n, "autosp.mask"); },
       {}},
      {"PositionsOffByOne",
       Of("gpt", 3, "ulysses", 64),
       [](Graph&, Node& n) {
         if (n.op != "autosp.positions") return false;
         n.args[0] = Arg::Int(n.args[0].int_value() + 1);
         return true;
       },
       {}},
      {"RowsOfQueriesNotShifted",
       Of("gpt", 2, "allgather-kv", 61),
       [](Graph&, Node& n) {
         if (n.op != "autosp.attention") return false;
         n.args[6] = Arg::Bool(false);
         return true;
       },
       {}},
      {"AnotherKvHead",
       Of("gpt", 2, "ulysses", 61),
       [](Graph&, Node& n) {
         if (n.op != "autosp.attention") return false;
         bool changed = false;
         std::vector<int64_t> map = n.args[8].int_values();
         for (int64_t& head : map) changed = std::exchange(head, 0) != 0 || changed;
         n.args[8] = Arg::Ints(map);
         return changed;
       },
       {}},
      {"AWindowOffByOne",
       Of("window", 2, "ulysses", 61),
       [](Graph&, Node& n) {
         if (n.op != "autosp.attention") return false;
         auto predicate = Predicate::Parse(n.args[4].s);
         if (!predicate || predicate->kind != Predicate::Kind::kDiff || predicate->hi == Predicate::kMax) return false;
         ++predicate->hi;
         n.args[4] = Arg::String(predicate->ToString());
         return true;
       },
       {}},
      {"HeadsInAnotherOrder",
       Of("gpt", 2, "ulysses", 61),
       [](Graph& g, Node& n) {
         if (n.op != "autosp.all_to_all" || n.args[1].int_value() != 1) return false;
         const ir::Value& x = g.value(n.args[0].value);
         std::vector<int64_t> backwards;
         for (int64_t head = x.int_sizes()[1]; head-- > 0;) backwards.push_back(head);
         n.args[0] = Arg::Value(Before(g, n, "autosp.take", {Arg::Value(x.id), Arg::Int(1), Arg::Ints(backwards)},
                                       x.dtype, x.int_sizes(), x.placement));
         return true;
       },
       {}},
  };
  return faults;
}

class PlantedFaults : public ::testing::TestWithParam<size_t> {};
TEST_P(PlantedFaults, IsNoticed) { ExpectNoticed(FaultsOfModels()[GetParam()]); }
INSTANTIATE_TEST_SUITE_P(All, PlantedFaults, ::testing::Range<size_t>(0, FaultsOfModels().size()),
                         [](const auto& info) { return FaultsOfModels()[info.param].name; });

}  // namespace
}  // namespace autospc::testing
