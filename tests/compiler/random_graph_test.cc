// Random graphs, compiled for P ranks and for meshes, and run, against the same graphs run whole in float64: loss and every gradient.
// AUTOSPC_RANDOM_GRAPHS=N runs N of them, AUTOSPC_RANDOM_SEED=S the one of seed S.
#include "tests/compiler/random_graph.h"

#include <cstdlib>
#include <functional>

#include <ATen/ops/empty.h>
#include <gtest/gtest.h>

#include "passes/ir/printer.h"
#include "tests/compiler/random_ops.h"
#include "tests/compiler/run_ranks.h"
#include "tests/exec/far_device.h"

namespace autospc::testing {

at::Tensor RandomGraph::Normal(std::vector<int64_t> sizes, double spread) {
  at::Tensor t = at::empty(sizes, at::kDouble);
  std::normal_distribution<double> normal(0, spread);
  for (int64_t i = 0; i < t.numel(); ++i) t.mutable_data_ptr<double>()[i] = normal(random_);
  return t;
}

// A new parameter, or one that is already in use elsewhere.
ValueId RandomGraph::Weight(std::vector<int64_t> sizes, double spread) {
  if (Chance(30)) {
    for (const ValueId v : weights_) {
      if (b_.sizes(v) == sizes) return v;
    }
  }
  const ValueId v = b_.Parameter("w" + std::to_string(weights_.size()), Normal(sizes, spread));
  weights_.push_back(v);
  return v;
}

ValueId RandomGraph::Any() {
  const int64_t n = static_cast<int64_t>(pool_.size());
  return pool_[static_cast<size_t>(std::max(Draw(0, n - 1), Draw(0, n - 1)))];
}

ValueId RandomGraph::AnyLike(ValueId v) {
  std::vector<ValueId> like;
  for (const ValueId x : pool_) {
    if (b_.sizes(x) == b_.sizes(v)) like.push_back(x);
  }
  return like.empty() ? v : like[static_cast<size_t>(Draw(0, static_cast<int64_t>(like.size()) - 1))];
}

RandomGraph::RandomGraph(uint64_t seed, int steps) : random_(seed * 2654435761u + 1) {
  batch_ = Draw(1, 3);
  sequence_ = Draw(3, 13);
  const int64_t features = 2 * Draw(2, 4);
  const auto integers = [&](int64_t lo, int64_t hi) {
    at::Tensor t = at::empty({batch_, sequence_}, at::kLong);
    for (int64_t i = 0; i < t.numel(); ++i) t.mutable_data_ptr<int64_t>()[i] = Draw(lo, hi);
    return t;
  };
  ids_ = b_.Input("ids", integers(0, vocabulary_ - 1), 1);
  at::Tensor labels = integers(0, vocabulary_ - 1);
  if (Chance(40)) labels.masked_fill_(labels.lt(4), -100);  // ignored
  labels_ = b_.Input("labels", labels, 1);
  at::Tensor valid = at::empty({batch_, sequence_}, at::kLong);
  at::Tensor segments = at::empty({batch_, sequence_}, at::kLong);
  for (int64_t b = 0; b < batch_; ++b) {
    const int64_t length = Draw(1, sequence_);
    int64_t segment = 0;
    for (int64_t s = 0; s < sequence_; ++s) {
      valid[b][s] = s < length ? 1 : 0;
      segments[b][s] = segment += Chance(25);
    }
  }
  valid_ = b_.Input("valid", valid, 1);
  segments_ = b_.Input("segments", segments, 1);

  pool_.push_back(b_.Op("aten.embedding.default", {Arg::Value(Weight({vocabulary_, features}, 1)), Arg::Value(ids_)}));
  if (Chance(40)) {
    pool_.push_back(b_.Input("x", Normal({batch_, sequence_, features}), 1));
  }

  using Step = ValueId (RandomGraph::*)(ValueId);
  static constexpr std::pair<const char*, Step> kSteps[] = {
      {"pointwise", &RandomGraph::Pointwise},   {"binary", &RandomGraph::Binary},
      {"table", &RandomGraph::Table},           {"normalise", &RandomGraph::Normalise},
      {"softmax", &RandomGraph::Softmax},       {"over_features", &RandomGraph::OverFeatures},
      {"over_sequence", &RandomGraph::OverSequence}, {"transpose", &RandomGraph::ThroughTranspose},
      {"heads", &RandomGraph::ThroughHeads},    {"flat", &RandomGraph::ThroughFlat},
      {"shorten", &RandomGraph::Shorten},       {"pad_rows", &RandomGraph::PadRows},
      {"cat", &RandomGraph::CatFeatures},       {"without_rule", &RandomGraph::WithoutRule},
      {"where", &RandomGraph::Where},           {"attention", &RandomGraph::AttentionOver},
      {"positions", &RandomGraph::Positions},   {"mixing", &RandomGraph::Mixing},
      {"detached", &RandomGraph::Detached},
  };
  for (int i = 0; i < steps; ++i) {
    const auto& [name, step] = kSteps[static_cast<size_t>(Draw(0, std::size(kSteps) - 1))];
    story_ += std::string(story_.empty() ? "" : ", ") + name;
    ValueId y = (this->*step)(Any());
    if (b_[y].abs().max().item<double>() > 20) y = Unary("aten.tanh.default", y);  // nothing may run away
    pool_.push_back(y);
  }
  // The last value, and at times others, make the loss.
  ValueId loss = LossOf(pool_.back());
  for (int i = 0; i < 2; ++i) {
    if (Chance(40)) loss = Add(loss, LossOf(Any()));
  }
  if (!b_[loss].requires_grad()) loss = Add(loss, LossOf(pool_.front()));
  b_.Loss(loss);
}

namespace {

// The error of each gradient as golden files define it (DESIGN): ‖g − r‖ / max(‖r‖, 1e-4 ‖all‖); the worst.
struct Comparison {
  double worst = 0;
  std::string what;

  void Take(double error, const std::string& name) {
    if (error <= worst) return;  // a NaN is taken
    worst = std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
    what = name;
  }
};

Comparison Compare(const std::vector<RankResult>& got, double loss, const Tensors& want) {
  Comparison c;
  double all = 0;
  for (const auto& [name, r] : want) all += Norm(r) * Norm(r);
  for (size_t rank = 0; rank < got.size(); ++rank) {
    const std::string on = " on rank " + std::to_string(rank);
    c.Take(std::abs(got[rank].loss - loss) / std::max(std::abs(loss), 1e-3), "the loss" + on);
    for (const auto& [name, r] : want) {
      const auto it = got[rank].gradients.find(name);
      // Below 1e-6 the rounding of terms of size 1 that cancel decides (a layer norm of a layer norm).
      const double limit = std::max({Norm(r), 1e-4 * std::sqrt(all), 1e-6});
      if (it == got[rank].gradients.end()) c.Take(Norm(r) == 0 ? 0 : 1, name + ", which is missing" + on);
      else c.Take(Norm(it->second - r) / limit, name + on);
    }
    for (const auto& [name, g] : got[rank].gradients) {
      if (!want.contains(name)) c.Take(Norm(g) == 0 ? 0 : 1, name + ", which has none" + on);
    }
  }
  return c;
}

struct Statistics {
  int graphs = 0, runs = 0, gathered = 0;
  double worst = 0;
  size_t most_pending = 0;  // collectives
};

// Where the ranks run: on the host or on a device, their collectives as late as they may be.
struct Place {
  std::optional<c10::Device> device;
  bool late = false;
};

// As many runs as there are meshes.
void RunSeed(uint64_t seed, const std::function<std::vector<Mesh>(std::mt19937_64*)>& meshes, const Place& place, Statistics* statistics) {
  std::mt19937_64 random(seed);
  RandomGraph graph(seed, 3 + static_cast<int>(random() % 9));
  const Tensors want = graph.builder().Gradients();
  const double loss = graph.builder().loss();
  ASSERT_TRUE(std::isfinite(loss)) << "seed " << seed << ": " << graph.story();
  ++statistics->graphs;
  for (const Mesh& mesh : meshes(&random)) {
    const std::string strategy = random() % 2 ? "ulysses" : "allgather-kv";
    const std::string what = fmt::format("seed {}, dp {}, sp {}, {}: {}", seed, mesh.dp, mesh.sp, strategy, graph.story());
    CompileHooks hooks;
    if (place.device) hooks.device = "cuda";
    auto compiled = CompileGraph(graph.builder().graph, mesh, strategy, hooks);
    ASSERT_TRUE(compiled.ok()) << what << "\n" << compiled.error().Format() << "\n" << ir::Print(graph.builder().graph);
    size_t pending = 0;
    auto results = RunRanks(compiled->program, graph.builder().parameters, graph.builder().inputs, place.device, place.late ? &pending : nullptr);
    ASSERT_TRUE(results.ok()) << what << "\n" << results.error().Format() << "\n" << ir::Print(graph.builder().graph);
    const Comparison c = Compare(*results, loss, want);
    ++statistics->runs;
    statistics->most_pending = std::max(statistics->most_pending, pending);
    statistics->gathered += !compiled->notes.empty();
    statistics->worst = std::max(statistics->worst, c.worst);
    // float64 on both sides, some hundred operations deep, sums in another order.
    EXPECT_LE(c.worst, 1e-10) << what << "\nworst: " << c.what << "\n" << ir::Print(graph.builder().graph);
  }
}

Statistics RunSeeds(int64_t usual, const std::function<std::vector<Mesh>(std::mt19937_64*)>& meshes, const Place& place = {}) {
  Statistics statistics;
  const int64_t only = Environment("AUTOSPC_RANDOM_SEED", -1);
  const int64_t count = Environment("AUTOSPC_RANDOM_GRAPHS", usual);
  for (int64_t seed = only < 0 ? 0 : only; seed < (only < 0 ? count : only + 1); ++seed) {
    RunSeed(static_cast<uint64_t>(seed), meshes, place, &statistics);
    if (::testing::Test::HasFatalFailure()) break;
  }
  ::testing::Test::RecordProperty("runs", statistics.runs);
  fmt::print("{} graphs, {} runs, {} with something gathered; worst error {:.1e}\n", statistics.graphs, statistics.runs,
             statistics.gathered, statistics.worst);
  return statistics;
}

TEST(RandomGraphs, PartitionedRunsEqualTheWholeOne) {
  RunSeeds(300, [](std::mt19937_64* random) -> std::vector<Mesh> {
    return {Mesh(1 + static_cast<int>((*random)() % 2)), Mesh(2 + static_cast<int>((*random)() % 4))};
  });
}

// Batches of 1 to 3 over 2 or 3 ranks, so most have padding; beside sequences over 1 to 3.
TEST(RandomGraphs, MeshesEqualTheWholeOne) {
  RunSeeds(200, [](std::mt19937_64* random) -> std::vector<Mesh> {
    return {Mesh(1 + static_cast<int>((*random)() % 3), 2 + static_cast<int>((*random)() % 2))};
  });
}

// By the portable kernels, on memory that the host cannot reach.
TEST(RandomGraphs, AFarDeviceEqualsTheWholeOne) {
  RunSeeds(100, [](std::mt19937_64* random) -> std::vector<Mesh> {
    return {Mesh(1 + static_cast<int>((*random)() % 3), 1 + static_cast<int>((*random)() % 2))};
  }, {far::Install()});
}

// Collectives beside the rest (runtime/exec/overlap.h).
TEST(RandomGraphs, LateCollectivesEqualTheWholeOne) {
  const Statistics statistics = RunSeeds(200, [](std::mt19937_64* random) -> std::vector<Mesh> {
    return {Mesh(2 + static_cast<int>((*random)() % 2), 1 + static_cast<int>((*random)() % 2))};
  }, {{}, /*late=*/true});
  EXPECT_GT(statistics.most_pending, 1u);
}

// The comparison sees faults: a gradient that is off, missing, or not a number.
TEST(RandomGraphs, TheComparisonSeesFaults) {
  RandomGraph graph(1, 4);
  const Tensors want = graph.builder().Gradients();
  const double loss = graph.builder().loss();
  std::vector<RankResult> good(2);
  for (RankResult& r : good) {
    r.loss = loss;
    for (const auto& [name, g] : want) r.gradients[name] = g.clone();
  }
  EXPECT_EQ(Compare(good, loss, want).worst, 0);
  const std::string first = want.begin()->first;
  auto bad = good;
  bad[1].gradients[first].mul_(1 + 1e-6);
  EXPECT_GT(Compare(bad, loss, want).worst, 1e-10);
  bad = good;
  bad[1].gradients[first] = want.at(first) * std::numeric_limits<double>::quiet_NaN();
  EXPECT_GT(Compare(bad, loss, want).worst, 1e-10);
  bad = good;
  bad[0].gradients.erase(first);
  EXPECT_GT(Compare(bad, loss, want).worst, 1e-10);
  bad = good;
  bad[0].loss += 1e-6 * std::max(1.0, std::abs(loss));
  EXPECT_GT(Compare(bad, loss, want).worst, 1e-10);
}

}  // namespace
}  // namespace autospc::testing
