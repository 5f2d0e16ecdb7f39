// Planted faults in graphs built for them, against the same graph run whole in float64. (The table of all faults is in
// faults_test.cc.) B = 2 and S = 7 on three ranks, unless said: blocks of 3, the last rank has one row and two of
// padding.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/compiler/faults.h"
#include "tests/compiler/graph_builder.h"

namespace autospc::testing {
namespace {

using ir::Graph;
using ir::Node;
using ir::Placement;

constexpr int64_t kGraphBatch = 2, kRows = 7, kFeatures = 6, kVocabulary = 11;

// Numbers in [-1, 1] without a pattern, others for another key.
at::Tensor Numbers(std::vector<int64_t> sizes, double key) {
  int64_t n = 1;
  for (const int64_t s : sizes) n *= s;
  return (at::arange(n, at::kDouble) * 12.9898 + key * 78.233).sin().mul(437.585).sin().view(sizes);
}

at::Tensor Integers(std::vector<int64_t> sizes, int64_t below, double key) {
  return Numbers(std::move(sizes), key)
      .add(1)
      .mul(0.5 * static_cast<double>(below))
      .floor()
      .clamp(0, below - 1)
      .to(at::kLong);
}

// A graph in a few words: the common inputs, and ops whose names are known.
struct Words {
  GraphBuilder b;
  int64_t rows = kRows;

  ValueId X() { return b.Input("x", Numbers({kGraphBatch, rows, kFeatures}, 1), 1); }
  ValueId Ids() { return b.Input("ids", Integers({kGraphBatch, rows}, kVocabulary, 2), 1); }
  ValueId Weight(const std::string& name, std::vector<int64_t> sizes, double key) {
    return b.Parameter(name, Numbers(sizes, key));
  }
  ValueId Embed() {
    return b.Op("aten.embedding.default",
                {Arg::Value(Weight("table", {kVocabulary, kFeatures}, 3)), Arg::Value(Ids())});
  }

  ValueId Unary(const std::string& op, ValueId x) { return b.Op("aten." + op + ".default", {Arg::Value(x)}); }
  ValueId Add(ValueId x, ValueId y) { return b.Op("aten.add.Tensor", {Arg::Value(x), Arg::Value(y)}); }
  ValueId Mul(ValueId x, ValueId y) { return b.Op("aten.mul.Tensor", {Arg::Value(x), Arg::Value(y)}); }
  ValueId Matmul(ValueId x, ValueId y) { return b.Op("aten.matmul.default", {Arg::Value(x), Arg::Value(y)}); }
  ValueId Linear(ValueId x, const std::string& name, int64_t out, double key) {
    return b.Op("aten.linear.default",
                {Arg::Value(x), Arg::Value(Weight(name, {out, b[x].size(-1)}, key)), Arg::None()});
  }
  ValueId Reshape(ValueId x, std::vector<int64_t> sizes) {
    return b.Op("aten.reshape.default", {Arg::Value(x), Arg::Ints(sizes)});
  }
  ValueId Over(const std::string& op, ValueId x, bool keep = true) {  // a reduction over the sequence
    return b.Op("aten." + op, {Arg::Value(x), Arg::Ints(std::vector<int64_t>{1}), Arg::Bool(keep)});
  }
  // x / sqrt(mean(x^2)) * w: a row of zeros has no finite gradient.
  ValueId Rms(ValueId x, const std::string& name, double key) {
    const ValueId mean =
        b.Op("aten.mean.dim", {Arg::Value(Mul(x, x)), Arg::Ints(std::vector<int64_t>{-1}), Arg::Bool(true)});
    return Mul(Mul(x, Unary("rsqrt", mean)), Weight(name, {kFeatures}, key));
  }
  // A loss in which every element of x counts otherwise; equal rows do not cancel.
  void Loss(ValueId x) { b.Loss(Unary("mean", Mul(Unary("tanh", x), x))); }
};

// The graph that `build` makes, on P ranks.
std::function<Result<Case>()> On(int ranks, const std::string& strategy, std::function<void(Words&)> build,
                                 int64_t rows = kRows) {
  return [=]() -> Result<Case> {
    Words words;
    words.rows = rows;
    build(words);
    Case c;
    c.graph = words.b.graph;
    c.stored = words.b.parameters;
    c.inputs = words.b.inputs;
    c.loss = words.b.loss();
    c.gradients = words.b.Gradients();
    c.ranks = ranks;
    c.strategy = strategy;
    return c;
  };
}

// With what one rank makes of it as the reference: of dropout, whose numbers are our own.
std::function<Result<Case>()> AgainstOneRank(std::function<Result<Case>()> make) {
  return [=]() -> Result<Case> {
    ASSIGN_OR_RETURN(Case c, make());
    ASSIGN_OR_RETURN(const CompiledGraph one, CompileGraph(c.graph, 1, c.strategy));
    ASSIGN_OR_RETURN(const std::vector<RankResult> got, RunRanks(one.program, c.stored, c.inputs));
    c.loss = got[0].loss;
    c.gradients = got[0].gradients;
    return c;
  };
}

// Rows go through a parameter, are summed, and the sum goes where it is not linear.
void Pooled(Words& w) {
  const ValueId x = w.Linear(w.X(), "w", kFeatures, 4);
  w.Loss(w.Add(x, w.Unary("tanh", w.Over("sum.dim_IntList", x))));
}

// A parameter in a region of whole values and in one of shards.
void SharedParameter(Words& w) {
  const ValueId a = w.Weight("a", {kFeatures, kFeatures}, 4);
  const ValueId x = w.Matmul(w.X(), a);
  w.Loss(w.Add(x, w.Unary("tanh", w.Matmul(w.Unary("tanh", w.Over("mean.dim", x)), a))));
}

// An op without a rule over whole rows, and over [B, S] as one dim.
void Flipped(Words& w) {
  const ValueId x = w.Linear(w.X(), "w", kFeatures, 4);
  const ValueId y = w.b.Op("aten.flip.default", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{1})});
  w.Loss(w.Mul(w.Linear(y, "u", kFeatures, 5), x));
}

void FlippedFlat(Words& w) {
  const ValueId x = w.Reshape(w.Linear(w.X(), "w", kFeatures, 4), {kGraphBatch * w.rows, kFeatures});
  const ValueId y = w.b.Op("aten.flip.default", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{0})});
  w.Loss(w.Mul(w.Linear(y, "u", kFeatures, 5), x));
}

// Six query heads on three key-value heads.
void Grouped(Words& w) {
  const ValueId x = w.Embed();
  const auto heads = [&](const std::string& name, int64_t count, double key) {
    const ValueId y = w.Reshape(w.Linear(x, name, count * 4, key), {kGraphBatch, w.rows, count, 4});
    return w.b.Op("aten.transpose.int", {Arg::Value(y), Arg::Int(1), Arg::Int(2)});
  };
  const ValueId y = w.b.Attention(heads("q", 6, 4), heads("k", 3, 5), heads("v", 3, 6), {}, Predicate::True(), 0.7);
  w.Loss(
      w.Linear(w.Reshape(w.b.Op("aten.transpose.int", {Arg::Value(y), Arg::Int(1), Arg::Int(2)}), {kGraphBatch, w.rows, 24}),
               "o", kFeatures, 7));
}

void ZeroRowAtTheEndCutOff(Words& w) {
  at::Tensor last = at::full({1, w.rows, 1}, 1.0, at::kDouble);
  last[0][w.rows - 1].zero_();
  const ValueId x = w.Mul(w.Embed(), w.b.Input("last", last, 1));
  const ValueId cut =
      w.b.Op("aten.slice.Tensor", {Arg::Value(x), Arg::Int(1), Arg::Int(0), Arg::Int(w.rows - 1), Arg::Int(1)});
  w.Loss(w.Linear(w.Rms(cut, "n", 4), "w", kFeatures, 5));
}

// A table of exactly S rows.
void PositionTable(Words& w) {
  const ValueId at = w.b.Op("aten.arange.default", {Arg::Int(w.rows), Arg::Type(ir::DType::kInt64)});
  const ValueId table = w.Weight("positions", {w.rows, kFeatures}, 4);
  w.Loss(
      w.Linear(w.Add(w.X(), w.b.Op("aten.embedding.default", {Arg::Value(table), Arg::Value(at)})), "w", kFeatures, 5));
}

// Next-token labels as Hugging Face shifts them, a third of them ignored, mostly of the first rows.
void NextToken(Words& w) {
  at::Tensor labels = Integers({kGraphBatch, w.rows}, kVocabulary, 8);
  labels.narrow(1, 0, w.rows / 2).fill_(-100);
  ValueId y = w.b.Input("labels", labels, 1);
  y = w.b.Op("aten.constant_pad_nd.default", {Arg::Value(y), Arg::Ints(std::vector<int64_t>{0, 1}), Arg::Int(-100)});
  y = w.b.Op("aten.slice.Tensor", {Arg::Value(y), Arg::Int(1), Arg::Int(1), Arg::Int(w.rows + 1), Arg::Int(1)});
  y = w.Reshape(y, {kGraphBatch * w.rows});
  const ValueId logits = w.Reshape(w.Linear(w.Embed(), "head", kVocabulary, 4), {kGraphBatch * w.rows, kVocabulary});
  w.b.Loss(w.b.Op("aten.cross_entropy_loss.default",
                  {Arg::Value(logits), Arg::Value(y), Arg::None(), Arg::Int(1), Arg::Int(-100), Arg::Float(0)}));
}

void OverTheSequence(Words& w, const std::string& op) {
  const ValueId x = w.Linear(w.X(), "w", kFeatures, 4);
  w.Loss(w.Mul(x, w.Over(op, x)));
}

// A maximum over rows of whole numbers, of which many are equal.
void Ties(Words& w) {
  const ValueId x = w.Linear(w.X(), "w", kFeatures, 4);
  const ValueId nothing =
      w.b.Op("aten.sub.Tensor", {Arg::Value(x), Arg::Value(w.Unary("detach", x))});  // but a derivative
  w.Loss(w.Mul(x, w.Over("amax.default", w.Add(w.Unary("round", x), nothing))));
}

// A sum over the sequence plus a bias, which stays an addend of the ranks up to a loss that is linear in it.
void SumPlusBias(Words& w) {
  const ValueId x = w.Linear(w.X(), "w", kFeatures, 4);
  const ValueId sum = w.Over("sum.dim_IntList", w.Mul(x, x), false);
  const ValueId y = w.Add(sum, w.Weight("bias", {kFeatures}, 5));
  w.b.Loss(w.Unary("mean", w.Mul(y, w.Weight("scale", {kFeatures}, 6))));
}

void Dropped(Words& w) {
  const ValueId x = w.Linear(w.X(), "w", kFeatures, 4);
  w.Loss(
      w.Linear(w.b.Op("aten.dropout.default", {Arg::Value(x), Arg::Float(0.4), Arg::Bool(true)}), "u", kFeatures, 5));
}

// What is planted.

// Conversions with a last argument `zero`, of these phases.
bool SetZero(Node& n, ir::Phase phase, bool zero, const std::set<std::string>& ops) {
  if (!ops.contains(n.op) || n.phase != phase || n.args.back().b == zero) return false;
  n.args.back() = Arg::Bool(zero);
  return true;
}

bool TheStepReducesAgain(Graph& g, Node& n) {
  bool changed = false;
  for (ir::GraphOutput& out : g.outputs) {
    if (out.kind != ir::OutputKind::kGradient || g.value(out.value).producer != n.id) continue;
    const ir::Value& v = g.value(out.value);
    const std::vector<ir::Expr> sizes = v.sizes;
    const ValueId again =
        Before(g, n, "autosp.all_reduce", {Arg::Value(v.id), Arg::String("sum")}, v.dtype, v.int_sizes(), {});
    g.MoveBefore(g.value(again).producer, ir::kNoNode);
    out.value = again;
    changed = true;
  }
  return changed;
}

bool AdjointOfAllReduceReduces(Graph& g, Node& n) {
  if (n.op != "autosp.vary" || n.phase != ir::Phase::kBackward) return false;
  n.op = "autosp.all_reduce";
  n.args.push_back(Arg::String("sum"));
  OwnStorage(g, n.results[0]);
  return true;
}

// The matrix product of whole values takes its parameter from the vary that the product of shards reads.
bool AReplicatedOpReadsTheVary(Graph& g, Node& n) {
  if (n.op != "aten.matmul.default" || !g.value(n.results[0]).placement.is_replicated()) return false;
  for (const ir::NodeId user : g.Users(n.args[1].value)) {
    const Node& vary = g.node(user);
    if (vary.op != "autosp.vary") continue;
    n.args[1] = Arg::Value(vary.results[0]);
    return true;
  }
  return false;
}

bool DuplicateHeadsOverwrite(Graph& g, Node& n) {
  if (n.op != "autosp.take_backward") return false;
  const std::vector<int64_t> index = n.args[2].int_values();
  std::vector<int64_t> last, kept;  // of each row that is taken, the last one to be written
  for (size_t i = 0; i < index.size(); ++i) {
    if (std::find(index.begin() + static_cast<int64_t>(i) + 1, index.end(), index[i]) != index.end()) continue;
    last.push_back(static_cast<int64_t>(i));
    kept.push_back(index[i]);
  }
  if (kept.size() == index.size()) return false;
  const ir::Value& grad = g.value(n.args[0].value);
  std::vector<int64_t> sizes = grad.int_sizes();
  sizes[static_cast<size_t>(n.args[1].int_value())] = static_cast<int64_t>(last.size());
  n.args[0] = Arg::Value(Before(g, n, "autosp.take", {Arg::Value(grad.id), n.args[1], Arg::Ints(last)}, grad.dtype,
                                sizes, grad.placement));
  n.args[2] = Arg::Ints(kept);
  return true;
}

bool PositionsNotClamped(Graph&, Node& n) {
  if (n.op != "autosp.positions") return false;
  n.args[3] = Arg::Int(3 * n.args[2].int_value());
  return true;
}

// shard(slice(pad(labels), 1:)) becomes slice(pad(shard(labels)), 1:).
bool LabelsShiftedByShard(Graph& g, Node& n) {
  if (n.op != "autosp.shard") return false;
  const Node* slice = g.producer(n.args[0].value);
  const Node* pad = slice && slice->op == "aten.slice.Tensor" ? g.producer(slice->args[0].value) : nullptr;
  if (!pad || pad->op != "aten.constant_pad_nd.default") return false;
  const ir::Value& y = g.value(n.results[0]);
  std::vector<int64_t> sizes = y.int_sizes();
  const int64_t block = sizes[1];
  const ValueId own =
      Before(g, n, "autosp.shard", {pad->args[0], n.args[1], n.args[2], n.args[3]}, y.dtype, sizes, y.placement);
  ++sizes[1];
  const ValueId longer =
      Before(g, n, "aten.constant_pad_nd.default", {Arg::Value(own), pad->args[1], pad->args[2]}, y.dtype, sizes, {});
  n.op = "aten.slice.Tensor";
  n.args = {Arg::Value(longer), Arg::Int(1), Arg::Int(1), Arg::Int(block + 1), Arg::Int(1)};
  return true;
}

// The sum of a rank's losses over its own count of labels, over P.
bool MeanOfRankMeans(Graph& g, Node& n) {
  const Node* loss = n.op == "aten.div.Tensor" ? g.producer(n.args[0].value) : nullptr;
  if (!loss || ir::ShortName(loss->op) != "cross_entropy_loss") return false;
  const ir::Value& labels = g.value(loss->args[1].value);
  const ir::Placement shard = labels.placement;
  const ValueId valid = Before(g, n, "aten.ne.Scalar", {Arg::Value(labels.id), Arg::Int(-100)}, ir::DType::kBool,
                               labels.int_sizes(), shard);
  ValueId count =
      Before(g, n, "aten.sum.default", {Arg::Value(valid), Arg::None()}, ir::DType::kInt64, {}, Placement::Varying());
  count = Before(g, n, "aten.clamp_min.default", {Arg::Value(count), Arg::Int(1)}, ir::DType::kInt64, {},
                 Placement::Varying());
  count =
      Before(g, n, "aten.mul.Tensor", {Arg::Value(count), Arg::Int(3)}, ir::DType::kInt64, {}, Placement::Varying());
  n.args[1] = Arg::Value(count);
  return true;
}

// Over the rows that a rank holds, not the true ones.
bool MeanOfRankMeansOverTheSequence(Graph&, Node& n) {
  if (n.op != "aten.div.Scalar" || n.args[1].number() != kRows) return LeaveOut(n, "autosp.mask");
  n.args[1] = Arg::Float(9);
  return true;
}

// amax over a rank's rows, gathered, and amax over those.
bool TiesSharedByRank(Graph& g, Node& n) {
  if (n.op != "aten.amax.default") return false;
  const Node* gather = g.producer(n.args[0].value);
  if (!gather || gather->op != "autosp.all_gather") return false;
  const ir::Value& x = g.value(gather->args[0].value);
  std::vector<int64_t> sizes = x.int_sizes();
  const ValueId masked =
      Before(g, n, "autosp.mask", {Arg::Value(x.id), Arg::Int(1), Arg::Int(kRows), Arg::Float(-1e300)}, x.dtype, sizes,
             x.placement);
  sizes[1] = 1;
  const ValueId own = Before(g, n, "aten.amax.default", {Arg::Value(masked), n.args[1], Arg::Bool(true)}, x.dtype,
                             sizes, Placement::Sharded(1, 3, 1));
  sizes[1] = 3;
  n.args[0] =
      Arg::Value(Before(g, n, "autosp.all_gather", {Arg::Value(own), Arg::Int(1), Arg::Int(3), Arg::Bool(false)},
                        x.dtype, sizes, Placement::Replicated()));
  return true;
}

bool AnyOpAcceptsP(Graph& g, Node& n) {
  return n.op == "autosp.all_reduce" && !g.Users(n.results[0]).empty() && LeaveOut(n, n.op);
}

// [B, S/P, 1, F] gathered along S becomes [B * S/P, F] gathered as it lies.
bool FlatRowsGatheredAsTheyLie(Graph& g, Node& n) {
  const Node* split = n.op == "autosp.all_gather" ? g.producer(n.args[0].value) : nullptr;
  if (!split || split->op != "aten.reshape.default") return false;
  n.args[0] = split->args[0];
  n.args[1] = Arg::Int(0);
  n.args[2] = Arg::Int(kGraphBatch * n.args[2].int_value());
  g.value(n.results[0]).sizes = {ir::Expr(n.args[2].int_value()), ir::Expr(kFeatures)};
  return true;
}

bool DropoutByLocalIndex(Graph&, Node& n) {
  if (n.op != "autosp.dropout") return false;
  n.args[3] = Arg::Int(-1);
  return true;
}

bool SeedOneOverP(Graph&, Node& n) {
  if (n.op != "aten.ones_like.default" || n.phase != ir::Phase::kBackward) return false;
  n.op = "aten.full_like.default";
  n.args.insert(n.args.begin() + 1, Arg::Float(1.0 / 3));
  return true;
}

// x * (1 - padding) + fill * padding: 0 * inf where the fill is infinite.
bool MaskedByAProduct(Graph& g, Node& n) {
  if (n.op != "autosp.mask") return false;
  const ir::Value& x = g.value(n.args[0].value);
  const std::vector<int64_t> sizes = x.int_sizes();
  const Placement p = x.placement;
  const ir::DType dtype = x.dtype;
  const auto add = [&](const char* op, std::vector<Arg> args) {
    return Arg::Value(Before(g, n, op, std::move(args), dtype, sizes, p));
  };
  const Arg zeros = add("aten.zeros_like.default",
                        {Arg::Value(x.id), Arg::None(), Arg::None(), Arg::None(), Arg::None(), Arg::None()});
  const Arg padding = add("autosp.mask", {zeros, n.args[1], n.args[2], Arg::Int(1)});
  const Arg kept =
      add("aten.mul.Tensor", {Arg::Value(x.id), add("aten.rsub.Scalar", {padding, Arg::Int(1), Arg::Int(1)})});
  const Arg filled = add("aten.mul.Scalar", {padding, n.args[3]});
  n.op = "aten.add.Tensor";
  n.args = {kept, filled, Arg::Int(1)};
  return true;
}

const std::vector<Fault>& FaultsOfGraphs() {
  using enum Typed;
  static const std::set<std::string> kSlicing = {"autosp.shard", "autosp.reduce_scatter", "autosp.all_to_all"};
  static const auto over = [](const std::string& op) { return [op](Words& w) { OverTheSequence(w, op); }; };
  static const std::vector<Fault> faults = {
      {"TheStepReducesAgain", On(3, "ulysses", Pooled), {}, TheStepReducesAgain, kYes},
      {"AllReducesAdjointReduces", On(3, "ulysses", Pooled), {}, AdjointOfAllReduceReduces, kYes},
      {"AReplicatedOpReadsTheVary", On(3, "ulysses", SharedParameter), AReplicatedOpReadsTheVary, {}, kYes},
      {"AllGathersAdjointSums",
       On(3, "ulysses", Flipped),
       [](Graph&, Node& n) {
         if (n.op != "autosp.all_gather" || n.args[3].b) return false;
         n.args[3] = Arg::Bool(true);
         return true;
       },
       {},
       kYes},
      {"DuplicateKvHeadsOverwrite", On(2, "ulysses", Grouped), {}, DuplicateHeadsOverwrite},
      {"PaddingWithZeros",
       On(3, "ulysses", [](Words& w) { w.Loss(w.Linear(w.Rms(w.X(), "n", 4), "w", kFeatures, 5)); }),
       [](Graph&, Node& n) { return SetZero(n, ir::Phase::kForward, true, kSlicing); },
       {}},
      {"PaddingRepeatedInAdjoints",
       On(3, "allgather-kv", Grouped),
       {},
       [](Graph&, Node& n) { return SetZero(n, ir::Phase::kBackward, false, kSlicing); }},
      {"NoPaddingAnewAfterASlice",
       On(3, "ulysses", ZeroRowAtTheEndCutOff, 6),
       [](Graph&, Node& n) { return LeaveOut(n, "autosp.pad_last"); },
       {}},
      {"PositionsNotClamped", On(3, "ulysses", PositionTable), PositionsNotClamped, {}},
      {"LabelsShiftedByShard", On(3, "ulysses", NextToken), LabelsShiftedByShard, {}},
      {"MeanOfRankMeansOverTokens", On(3, "ulysses", NextToken), MeanOfRankMeans, {}, kYes},
      {"MeanOfRankMeansOverTheSequence", On(3, "ulysses", over("mean.dim")), MeanOfRankMeansOverTheSequence, {}},
      {"SumsCountPadding",
       On(3, "ulysses", over("sum.dim_IntList")),
       [](Graph&, Node& n) { return LeaveOut(n, "autosp.mask"); },
       {}},
      {"LogSumExpSeesPadding",
       On(3, "ulysses", over("logsumexp.default")),
       [](Graph&, Node& n) { return LeaveOut(n, "autosp.mask"); },
       {}},
      {"MaskedByAProductWithInfinity", On(3, "ulysses", over("logsumexp.default")), MaskedByAProduct, {}},
      {"TiesSharedByRank", On(3, "ulysses", Ties), TiesSharedByRank, {}},
      {"PPlusROnEveryRank",
       On(3, "ulysses", SumPlusBias),
       [](Graph&, Node& n) { return LeaveOut(n, "autosp.first"); },
       {},
       kYes},
      {"AnyOpAcceptsP", On(3, "ulysses", Pooled), AnyOpAcceptsP, {}, kYes},
      {"FlatRowsGatheredAsTheyLie", On(3, "ulysses", FlippedFlat), FlatRowsGatheredAsTheyLie, {}, kYes},
      {"DropoutByLocalIndex", AgainstOneRank(On(3, "ulysses", Dropped)), DropoutByLocalIndex, {}},
      {"SeedOneOverP", On(3, "ulysses", Pooled), {}, SeedOneOverP},
  };
  return faults;
}

class GraphFaults : public ::testing::TestWithParam<size_t> {};
TEST_P(GraphFaults, IsNoticed) { ExpectNoticed(FaultsOfGraphs()[GetParam()]); }
INSTANTIATE_TEST_SUITE_P(All, GraphFaults, ::testing::Range<size_t>(0, FaultsOfGraphs().size()),
                         [](const auto& info) { return FaultsOfGraphs()[info.param].name; });

}  // namespace
}  // namespace autospc::testing
