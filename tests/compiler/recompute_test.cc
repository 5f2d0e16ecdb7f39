// Random graphs compiled to budgets, tiled and with an optimiser at times: peaks within the budget, and gradients that
// are bit for bit those of the same program without recomputation, and those of one device in float64.
// AUTOSPC_RANDOM_GRAPHS=N runs N graphs, AUTOSPC_RANDOM_SEED=S the one of seed S.
#include <gtest/gtest.h>

#include <ATen/ops/equal.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <deque>

#include "codegen/cost.h"
#include "codegen/kernel_traits.h"
#include "codegen/memory_report.h"
#include "compiler/autodiff/bridge.h"
#include "compiler/fastest.h"
#include "passes/ir/printer.h"
#include "passes/recompute/fit.h"
#include "passes/tile/tile.h"
#include "runtime/train/capture.h"
#include "tests/compiler/faults.h"
#include "tests/compiler/random_graph.h"
#include "tests/compiler/random_ops.h"
#include "tests/compiler/run_ranks.h"

namespace autospc::testing {
namespace {

// A random graph with what one device makes of it.
Case DrawCase(uint64_t seed, std::mt19937_64& random, std::string* story) {
  RandomGraph graph(seed, 3 + static_cast<int>(random() % 9));
  Case c;
  c.graph = graph.builder().graph;
  c.stored = graph.builder().parameters;
  c.inputs = graph.builder().inputs;
  c.loss = graph.builder().loss();
  c.gradients = graph.builder().Gradients();
  c.ranks = 1 + static_cast<int>(random() % 3);
  c.strategy = random() % 2 ? "ulysses" : "allgather-kv";
  *story = graph.story();
  return c;
}

PassContext DrawContext(const Case& c, std::mt19937_64& random) {
  PassContext context;
  context.ranks = c.ranks;
  context.strategy = c.strategy;
  const char* optimizers[] = {"none", "sgd", "adamw"};
  context.optimizer = optimizers[random() % 3];
  if (context.optimizer != "none") {
    context.zero = static_cast<int>(random() % 3);
    context.clip_norm = random() % 2 ? 0.5 : 0;
  }
  context.tile_level = static_cast<int>(random() % (tile::kMaxTileLevel + 1));
  return context;
}

Result<ir::Graph> Partitioned(ir::Graph graph, PassContext& context, PassManager& manager) {
  std::vector<std::string> passes = CanonicalPipeline();
  passes.push_back("partition");
  if (context.tile_level > 0) passes.push_back("tile");
  RETURN_IF_ERROR(manager.Run(graph, context, passes));
  return graph;
}

Result<ir::Graph> Joint(const ir::Graph& partitioned, PassContext& context, PassManager& manager) {
  ASSIGN_OR_RETURN(ir::Graph joint, autodiff::Trace(partitioned));
  RETURN_IF_ERROR(manager.Run(joint, context, {"accumulate-products"}));
  RETURN_IF_ERROR(manager.Run(joint, context, StepPipeline(context)));
  return joint;
}

Result<program::ProgramT> Program(const ir::Graph& joint, const PassContext& context) {
  codegen::LowerOptions lower;
  lower.mesh = context.mesh();
  lower.has_out = HasOut;
  return codegen::Lower(joint, context, lower);
}

// One step of each rank; the gradients whole, whatever they are sharded over.
Status Step(const std::shared_ptr<const program::ProgramT>& program, Communicator* communicator, const Case& c, RankResult* result,
            Tensors* parameters) {
  exec::ExecutorOptions options;
  options.rank = communicator->rank();
  options.communicator = communicator;
  ASSIGN_OR_RETURN(const auto e, exec::Executor::Create(program, options));
  for (const auto kind : {program::StorageKind::Parameter, program::StorageKind::Buffer, program::StorageKind::Constant}) {
    RETURN_IF_ERROR(Fill(*e, kind, c.stored));
  }
  RETURN_IF_ERROR(Fill(*e, program::StorageKind::Input, c.inputs));
  e->SetScalar("lr", 0.1);
  e->SetScalar("step", 1);
  ASSIGN_OR_RETURN(train::Capture capture, train::Capture::Make(*e, true, true));
  RETURN_IF_ERROR(capture.Step(e.get()));
  result->loss = capture.loss();
  for (const ComputedGradient& g : capture.gradients()) {
    const auto type = autodiff::ToScalarType(static_cast<ir::DType>(g.dtype));
    result->gradients[g.name] = at::from_blob(const_cast<void*>(g.data), g.sizes, g.strides, at::TensorOptions().dtype(type)).clone();
  }
  for (const auto& [name, t] : c.stored) {
    const int storage = e->FindStorage(program::StorageKind::Parameter, name);
    if (storage >= 0) (*parameters)[name] = at::from_blob(e->storage(storage), t.sizes(), at::TensorOptions().dtype(t.scalar_type())).clone();
  }
  return Ok();
}

struct Ran {
  std::vector<RankResult> ranks;
  std::vector<Tensors> parameters;  // after the step
};

Result<Ran> RunCase(program::ProgramT program, const Case& c) {
  const auto shared = std::make_shared<const program::ProgramT>(std::move(program));
  const auto communicators = MakeInProcessCommunicators(c.ranks);
  Ran ran{std::vector<RankResult>(c.ranks), std::vector<Tensors>(c.ranks)};
  std::vector<std::optional<Error>> errors(c.ranks);
  std::vector<std::thread> threads;
  for (int r = 0; r < c.ranks; ++r) {
    threads.emplace_back([&, r] {
      at::set_num_threads(1);
      const Status status = Step(shared, communicators[r].get(), c, &ran.ranks[r], &ran.parameters[r]);
      if (status.ok()) return;
      errors[r] = status.error();
      communicators[r]->Abort();
    });
  }
  for (std::thread& t : threads) t.join();
  for (const auto& error : errors) {
    if (error) return *error;
  }
  return ran;
}

void ExpectBitEqual(const Tensors& a, const Tensors& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (const auto& [name, t] : a) EXPECT_TRUE(at::equal(t, b.at(name))) << name << " differs, " << what;
}

struct Tally {
  int graphs = 0, budgets = 0, repeating = 0, tiled = 0;
  double worst = 0;
};

void RunSeed(uint64_t seed, Tally* tally) {
  std::mt19937_64 random(seed + 3);
  std::string story;
  const Case c = DrawCase(seed, random, &story);
  PassContext context = DrawContext(c, random);
  PassRegistry registry;
  RegisterAllPasses(registry);
  PassManager manager(registry, {});
  std::string what = fmt::format("seed {}, P = {}, {}, tile {}, {}, zero {}: {}", seed, c.ranks, c.strategy, context.tile_level,
                                 context.optimizer, context.zero, story);
  const auto partitioned = Partitioned(c.graph, context, manager);
  ASSERT_TRUE(partitioned.ok()) << what << "\n" << partitioned.error().Format();
  if (context.tile_level > 0) tally->tiled += manager.timings().back().changed;
  const auto joint = Joint(*partitioned, context, manager);
  ASSERT_TRUE(joint.ok()) << what << "\n" << joint.error().Format();

  const auto traits = codegen::KernelTraits(c.ranks, HasOut);
  std::deque<recompute::Form> forms(1);
  forms[0].graph = &*joint;
  forms[0].problem = recompute::Describe(*joint, traits, codegen::KernelCosts(c.ranks, codegen::CpuRates()));
  forms[0].candidates = recompute::FindCandidates(*joint, forms[0].problem, "auto");
  const auto choose = [&](int64_t budget) { return OrThrow(recompute::ChooseWithin(forms, budget, traits)); };
  const int64_t most = choose(0).peak_bytes, least = choose(1).peak_bytes;

  // The program as it is, without a repetition or another order.
  auto plain = Program(*joint, context);
  ASSERT_TRUE(plain.ok()) << what << "\n" << plain.error().Format();
  const auto want = RunCase(std::move(*plain), c);
  ASSERT_TRUE(want.ok()) << what << "\n" << want.error().Format();
  ++tally->graphs;
  const std::vector<int64_t> budgets = {least, least + static_cast<int64_t>(random() % static_cast<uint64_t>(most - least + 1)), most};
  for (const int64_t budget : budgets) {
    const std::string at = fmt::format("{} bytes of {} … {}, {}", budget, least, most, what);
    const recompute::Choice choice = choose(budget);
    ASSERT_TRUE(choice.fits) << at;
    EXPECT_LE(choice.peak_bytes, budget) << at;
    auto program = Program(choice.graph, context);
    ASSERT_TRUE(program.ok()) << at << "\n" << program.error().Format();
    const codegen::MemoryReport report = codegen::ReportMemory(*program);
    EXPECT_EQ(report.arena_bytes, choice.arena_bytes) << at;
    EXPECT_LE(report.total_bytes(), budget) << at << ": the choice rounds each persistent storage up, the report doesn't";
    const auto got = RunCase(std::move(*program), c);
    ASSERT_TRUE(got.ok()) << at << "\n" << got.error().Format();
    for (int r = 0; r < c.ranks; ++r) {
      EXPECT_EQ(got->ranks[r].loss, want->ranks[r].loss) << at;
      ExpectBitEqual(got->ranks[r].gradients, want->ranks[r].gradients, at);
      ExpectBitEqual(got->parameters[r], want->parameters[r], at);
    }
    ++tally->budgets;
    tally->repeating += forms[0].candidates[choice.candidate].schedule.again_seconds > 0;
    tally->worst = std::max(tally->worst, WorstError(c, got->ranks));
    if (::testing::Test::HasFailure()) return;
  }
  // float64 on both sides; gradients below 1e-4 of the whole count absolutely, as in golden files.
  EXPECT_LE(WorstError(c, want->ranks), 1e-10) << what << "\n" << ir::Print(c.graph);
}

TEST(Recompute, RandomGraphsAtBudgetsComputeTheSame) {
  Tally tally;
  const int64_t only = Environment("AUTOSPC_RANDOM_SEED", -1), count = Environment("AUTOSPC_RANDOM_GRAPHS", 40);
  for (int64_t seed = only < 0 ? 0 : only; seed < (only < 0 ? count : only + 1); ++seed) {
    RunSeed(static_cast<uint64_t>(seed), &tally);
    if (HasFatalFailure()) break;
  }
  fmt::print("{} graphs, {} tiled, {} budgets, {} with repetitions; worst error {:.1e}\n", tally.graphs, tally.tiled, tally.budgets,
             tally.repeating, tally.worst);
  if (only < 0 && count >= 40) {
    EXPECT_GT(2 * tally.repeating, tally.graphs);
    EXPECT_GT(tally.tiled, 5);
  }
}

// The whole search: forms that compete, ZeRO as the budget asks.
TEST(Recompute, TheFastestThatFitsIsWithinTheBudget) {
  for (uint64_t seed = 100; seed < 108; ++seed) {
    std::mt19937_64 random(seed);
    std::string story;
    const Case c = DrawCase(seed, random, &story);
    PassRegistry registry;
    RegisterAllPasses(registry);
    PassManager manager(registry, {});
    PassContext context;
    context.ranks = c.ranks;
    context.strategy = c.strategy;
    context.optimizer = "adamw";
    const auto partitioned = Partitioned(c.graph, context, manager);
    ASSERT_TRUE(partitioned.ok()) << partitioned.error().Format();
    const auto compile = [&](int64_t budget, std::vector<PlanPoint>* curve) {
      PassContext now = context;
      now.zero = -1;
      now.memory_budget = budget;
      const Planned planned = OrThrow(FastestThatFits(*partitioned, now, Target{}, false, manager, curve));
      return OrThrow(Program(planned.graph, now));
    };
    std::vector<PlanPoint> curve;
    const int64_t most = codegen::ReportMemory(compile(0, &curve)).total_bytes(), least = codegen::ReportMemory(compile(1, &curve)).total_bytes();
    const int64_t budget = least + (most - least) / 3;
    program::ProgramT program = compile(budget, &curve);
    EXPECT_LE(codegen::ReportMemory(program).total_bytes(), budget) << "seed " << seed;
    EXPECT_EQ(std::count_if(curve.begin(), curve.end(), [](const PlanPoint& p) { return p.chosen; }), 1);
    const auto got = RunCase(std::move(program), c);
    ASSERT_TRUE(got.ok()) << "seed " << seed << ": " << got.error().Format();
    EXPECT_LE(WorstError(c, got->ranks), 1e-10) << "seed " << seed << ": " << story;
  }
}

}  // namespace
}  // namespace autospc::testing
