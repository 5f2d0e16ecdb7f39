// Batches over dp beside sequences over sp: what a mesh computes is what one rank computes. Random graphs on meshes are in
// random_graph_test.cc.
#include <ATen/ops/empty.h>
#include <ATen/ops/norm.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include "passes/ir/printer.h"
#include "runtime/base/predicate.h"
#include "tests/compiler/graph_builder.h"
#include "tests/compiler/run_ranks.h"

namespace autospc::testing {
namespace {

constexpr int64_t kBatch = 3, kLength = 7, kHeads = 3, kHeadDim = 4, kWidth = kHeads * kHeadDim;

at::Tensor Normal(at::IntArrayRef sizes) { return at::randn(sizes, at::kDouble); }

struct Model {
  GraphBuilder b;
  ValueId x, labels;

  Model() {
    at::manual_seed(3);
    x = b.Input("x", Normal({kBatch, kLength, kWidth}), 1);
    labels = b.Input("labels", at::randint(0, kWidth, {kBatch, kLength}, at::kLong), 1);
  }
  ValueId Weight(const std::string& name, at::IntArrayRef sizes) { return b.Parameter(name, Normal(sizes) * 0.3); }
  ValueId Linear(ValueId v, const std::string& name) {
    return b.Op("aten.linear.default", {Arg::Value(v), Arg::Value(Weight(name, {kWidth, kWidth}))});
  }
  // The mean cross entropy of logits [B, S, kWidth].
  ValueId Loss(ValueId logits) {
    const ValueId flat = b.Op("aten.view.default", {Arg::Value(logits), Arg::Ints(std::vector<int64_t>{kBatch * kLength, kWidth})});
    const ValueId wanted = b.Op("aten.view.default", {Arg::Value(labels), Arg::Ints(std::vector<int64_t>{kBatch * kLength})});
    return b.Op("aten.cross_entropy_loss.default", {Arg::Value(flat), Arg::Value(wanted)});
  }
};

CompiledGraph Compiled(const Model& m, const Mesh& mesh, const std::string& strategy) {
  auto compiled = CompileGraph(m.b.graph, mesh, strategy);
  EXPECT_TRUE(compiled.ok()) << compiled.error().Format() << "\n" << ir::Print(m.b.graph);
  return std::move(*compiled);
}

// Runs the model on meshes and holds loss and gradients on every rank against those of one rank.
void ExpectEqualOnMeshes(const Model& m, double limit = 1e-12) {
  const auto one = RunRanks(Compiled(m, Mesh(), "ulysses").program, m.b.parameters, m.b.inputs);
  ASSERT_TRUE(one.ok()) << one.error().Format();
  const RankResult& want = one->front();
  double all = 0;
  for (const auto& [name, g] : want.gradients) all += Norm(g) * Norm(g);
  for (const auto& [dp, sp] : {std::pair(2, 1), {2, 2}, {3, 2}, {1, 2}, {2, 4}, {4, 1}}) {
    for (const char* strategy : {"ulysses", "allgather-kv"}) {
      SCOPED_TRACE(fmt::format("dp {}, sp {}, {}", dp, sp, strategy));
      const auto got = RunRanks(Compiled(m, Mesh(sp, dp), strategy).program, m.b.parameters, m.b.inputs);
      ASSERT_TRUE(got.ok()) << got.error().Format();
      for (const RankResult& rank : *got) {
        EXPECT_NEAR(rank.loss, want.loss, limit * std::abs(want.loss));
        EXPECT_EQ(rank.gradients.size(), want.gradients.size());
        for (const auto& [name, g] : rank.gradients) {
          const at::Tensor& w = want.gradients.at(name);
          EXPECT_LE(Norm(g - w), limit * std::max(Norm(w), 1e-4 * std::sqrt(all))) << name;
        }
      }
    }
  }
}

// Element-wise dropout on [B, S, D], on [B*S, D] and on the batch-free [S, D]; and on attention's probabilities.
TEST(MeshTest, DropoutDrawsTheSame) {
  Model m;
  GraphBuilder& b = m.b;
  const auto drop = [&](ValueId v, double p) {
    return b.Op("aten.dropout.default", {Arg::Value(v), Arg::Float(p), Arg::Bool(true)});
  };
  const ValueId positions = drop(m.Weight("positions", {kLength, kWidth}), 0.2);
  const ValueId h = drop(b.Op("aten.add.Tensor", {Arg::Value(m.Linear(m.x, "in")), Arg::Value(positions)}), 0.3);
  const auto heads = [&](const std::string& name) {
    const ValueId split =
        b.Op("aten.view.default", {Arg::Value(m.Linear(h, name)), Arg::Ints(std::vector<int64_t>{kBatch, kLength, kHeads, kHeadDim})});
    return b.Op("aten.transpose.int", {Arg::Value(split), Arg::Int(1), Arg::Int(2)});
  };
  const ValueId q = heads("q"), k = heads("k"), v = heads("v");
  const ValueId attended = b.Attention(q, k, v, {}, *Predicate::Parse("diff(0, *)"), 0.5);
  b.graph.node(b.graph.value(attended).producer).args[11] = Arg::Float(0.4);
  const ValueId back = b.Op("aten.transpose.int", {Arg::Value(attended), Arg::Int(1), Arg::Int(2)});
  ValueId flat = b.Op("aten.reshape.default", {Arg::Value(back), Arg::Ints(std::vector<int64_t>{kBatch * kLength, kWidth})});
  flat = m.Linear(drop(flat, 0.25), "out");
  const ValueId wanted = b.Op("aten.view.default", {Arg::Value(m.labels), Arg::Ints(std::vector<int64_t>{kBatch * kLength})});
  b.Loss(b.Op("aten.cross_entropy_loss.default", {Arg::Value(flat), Arg::Value(wanted)}));
  ExpectEqualOnMeshes(m);
}

// Ops that mix over the batch: batch norm's statistics in training, by hand; an auxiliary loss that multiplies means over
// the batch, as mixtures of experts have.
TEST(MeshTest, StatisticsOverTheBatch) {
  Model m;
  GraphBuilder& b = m.b;
  ValueId h = m.Linear(m.x, "in");
  const std::vector<int64_t> dims = {0, 1};
  const ValueId mean = b.Op("aten.mean.dim", {Arg::Value(h), Arg::Ints(dims), Arg::Bool(true)});
  const ValueId variance = b.Op("aten.var.correction", {Arg::Value(h), Arg::Ints(dims), Arg::Int(0), Arg::Bool(true)});
  const ValueId centred = b.Op("aten.sub.Tensor", {Arg::Value(h), Arg::Value(mean)});
  const ValueId scale = b.Op("aten.rsqrt.default", {Arg::Value(b.Op("aten.add.Scalar", {Arg::Value(variance), Arg::Float(1e-5)}))});
  h = b.Op("aten.mul.Tensor", {Arg::Value(centred), Arg::Value(scale)});
  // Along the batch alone, and along the features of [S, B, D].
  const ValueId over_batch = b.Op("aten.softmax.int", {Arg::Value(h), Arg::Int(0)});
  const ValueId total = b.Op("aten.logsumexp.default", {Arg::Value(over_batch), Arg::Ints(std::vector<int64_t>{0}), Arg::Bool(true)});
  h = b.Op("aten.add.Tensor", {Arg::Value(m.Linear(h, "out")), Arg::Value(total)});
  const ValueId routed = b.Op("aten.softmax.int", {Arg::Value(m.Linear(h, "router")), Arg::Int(-1)});
  const ValueId usage = b.Op("aten.mean.dim", {Arg::Value(routed), Arg::Ints(dims)});
  const ValueId share = b.Op("aten.mean.dim", {Arg::Value(b.Op("aten.mul.Tensor", {Arg::Value(routed), Arg::Value(routed)})), Arg::Ints(dims)});
  const ValueId auxiliary = b.Op("aten.sum.default", {Arg::Value(b.Op("aten.mul.Tensor", {Arg::Value(usage), Arg::Value(share)}))});
  b.Loss(b.Op("aten.add.Tensor", {Arg::Value(m.Loss(h)), Arg::Value(auxiliary)}));
  ExpectEqualOnMeshes(m, 1e-11);
}

TEST(MeshTest, AnOpThatMixesTheBatchIsGatheredWithANote) {
  Model m;
  GraphBuilder& b = m.b;
  const ValueId sums = b.Op("aten.cumsum.default", {Arg::Value(m.Linear(m.x, "in")), Arg::Int(0)});
  b.Loss(m.Loss(m.Linear(sums, "out")));
  ExpectEqualOnMeshes(m);
  const CompiledGraph on_dp = Compiled(m, Mesh(1, 2), "ulysses");
  ASSERT_FALSE(on_dp.notes.empty());
  EXPECT_EQ(on_dp.notes[0].what, "aten.cumsum.default gathered and computed whole");
  EXPECT_EQ(on_dp.notes[0].why, "the op mixes rows of the batch");
}

// Every gradient of a weight is summed once, over all ranks: no sum along one axis is left.
TEST(MeshTest, GradientsAreReducedOnceOverTheWorld) {
  Model m;
  m.b.Loss(m.Loss(m.Linear(m.Linear(m.x, "in"), "out")));
  const CompiledGraph compiled = Compiled(m, Mesh(2, 2), "ulysses");
  EXPECT_EQ(compiled.program.world_size, 4);
  EXPECT_EQ(compiled.program.dp, 2);
  int sums = 0;
  for (const auto& collective : compiled.program.collectives) {
    EXPECT_EQ(collective->axis, "world") << collective->op << ": " << collective->why;
    sums += collective->op == "autosp.all_reduce_coalesced_";
  }
  EXPECT_EQ(sums, 1) << "one bucket";
}

TEST(MeshTest, AMeshNeedsABatch) {
  GraphBuilder b;
  const ValueId x = b.Input("x", Normal({kLength, kWidth}), 0, -1);
  const ValueId y = b.Op("aten.linear.default", {Arg::Value(x), Arg::Value(b.Parameter("w", Normal({kWidth, kWidth})))});
  b.Loss(b.Op("aten.mean.default", {Arg::Value(y)}));
  const auto compiled = CompileGraph(b.graph, Mesh(2, 2), "ulysses");
  ASSERT_FALSE(compiled.ok());
  EXPECT_EQ(compiled.error().code, Code::kBadInput);
  EXPECT_NE(compiled.error().what.find("no input has a batch dimension"), std::string::npos) << compiled.error().what;
}

}  // namespace
}  // namespace autospc::testing
