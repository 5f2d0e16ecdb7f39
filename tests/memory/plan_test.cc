// Lifetimes, in-place reuse and the checker, on graphs in text form and on random ones.
#include "passes/memory/plan.h"

#include <algorithm>
#include <chrono>
#include <random>

#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/ir/verifier.h"
#include "passes/memory/check.h"

namespace autospc::memory {
namespace {

using ir::Graph;
using ir::ValueId;

Graph Parse(std::string_view text) {
  Result<Graph> graph = ir::Parse(text);
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.error().Format());
  EXPECT_TRUE(ir::Verify(*graph).empty()) << ir::Verify(*graph)[0];
  return std::move(*graph);
}

// relu and add may run in place, mm needs scratch, all_to_all staging.
OpTraits Traits(const Graph&, const ir::Node& node) {
  OpTraits t;
  t.in_place_ok = node.op == "aten.relu.default" || node.op == "aten.add.Tensor";
  if (node.op == "aten.mm.default") t.workspace_bytes = 100;
  if (node.op == "autosp.all_to_all") t.communication_bytes = 256;
  return t;
}

MemoryPlan Plan(const Graph& graph) {
  Result<MemoryPlan> plan = PlanMemory(graph, Traits);
  EXPECT_TRUE(plan.ok()) << (plan.ok() ? "" : plan.error().Format());
  return std::move(*plan);
}

const Storage& StorageOf(const Graph& graph, const MemoryPlan& plan, std::string_view name) {
  return plan.storages[plan.locations[graph.FindValue(name)].storage];
}

bool Mentions(const std::vector<std::string>& violations, std::string_view text) {
  return std::any_of(violations.begin(), violations.end(),
                     [&](const std::string& v) { return v.find(text) != std::string::npos; });
}

constexpr std::string_view kChain = R"(graph @g {
  input %x : f32[8, 16]{16, 1} user "x"
  input %w : f32[16, 16]{16, 1} parameter "w" grad
  %a = aten.mm.default(%x, %w) : f32[8, 16]{16, 1} !src "m.py:1"
  %t = aten.t.default(%a) : f32[16, 8]{1, 16} base %a
  %b = aten.relu.default(%a) : f32[8, 16]{16, 1} !src "m.py:2"
  %c = aten.mm.default(%t, %b) : f32[16, 16]{16, 1} !src "m.py:3"
  %d = aten.relu.default(%c) : f32[16, 16]{16, 1} !src "m.py:4"
  %l = aten.sum.default(%d, none) : f32[]{} !src "m.py:5"
  output loss %l "loss"
})";

TEST(Plan, LifetimesReachOverViews) {
  const Graph g = Parse(kChain);
  const MemoryPlan plan = Plan(g);
  EXPECT_EQ(plan.instructions.size(), 5u) << "the view is no instruction";
  const Storage& a = StorageOf(g, plan, "a");
  EXPECT_EQ(a.first, 0);
  EXPECT_EQ(a.last, 2) << "read through t";
  EXPECT_EQ(plan.locations[g.FindValue("t")].storage, plan.locations[g.FindValue("a")].storage);
  EXPECT_EQ(StorageOf(g, plan, "x").kind, StorageKind::kInput);
  EXPECT_EQ(StorageOf(g, plan, "w").kind, StorageKind::kParameter);
  EXPECT_EQ(StorageOf(g, plan, "w").offset, -1);
  EXPECT_EQ(plan.output_after, std::vector<int>{4});
}

TEST(Plan, InPlaceOverADyingOperandAlone) {
  const Graph g = Parse(kChain);
  const MemoryPlan plan = Plan(g);
  EXPECT_NE(plan.locations[g.FindValue("b")].storage, plan.locations[g.FindValue("a")].storage) << "a is read later";
  EXPECT_EQ(plan.locations[g.FindValue("d")].storage, plan.locations[g.FindValue("c")].storage);
  // a (512) and b (512) with c (1024) and mm's scratch (100, rounded).
  EXPECT_EQ(plan.live_bytes, 512 + 512 + 1024 + 128);
  EXPECT_EQ(plan.arena_bytes, plan.live_bytes);
}

TEST(Plan, NeverInPlaceOverAnInputOrAnotherLayout) {
  const Graph g = Parse(R"(graph @g {
    input %x : f32[8, 8]{8, 1} user "x"
    %r = aten.relu.default(%x) : f32[8, 8]{8, 1}
    %a = aten.mm.default(%r, %x) : f32[8, 8]{8, 1}
    %t = aten.t.default(%a) : f32[8, 8]{1, 8} base %a
    %s = aten.add.Tensor(%a, %t, 1) : f32[8, 8]{8, 1}
    %u = aten.t.default(%s) : f32[8, 8]{1, 8} base %s
    %v = aten.relu.default(%u) : f32[8, 8]{8, 1}
    output user %v "v"
  })");
  const MemoryPlan plan = Plan(g);
  auto same = [&](const char* p, const char* q) {
    return plan.locations[g.FindValue(p)].storage == plan.locations[g.FindValue(q)].storage;
  };
  EXPECT_FALSE(same("r", "x"));
  EXPECT_FALSE(same("s", "a")) << "a + a.t() over a reads what it has overwritten";
  EXPECT_FALSE(same("v", "s")) << "the strides differ";
}

TEST(Plan, InPlaceOverTheFirstOperandAlone) {
  const Graph g = Parse(R"(graph @g {
    input %x : bool[8, 8]{8, 1} user "x"
    %a = aten.mm.default(%x, %x) : bool[8, 8]{8, 1}
    %m = aten.mm.default(%x, %x) : bool[8, 8]{8, 1}
    %b = aten.masked_fill.Scalar(%x, %m, 0) : bool[8, 8]{8, 1}
    %c = aten.masked_fill.Scalar(%a, %b, 0) : bool[8, 8]{8, 1}
    %d = aten.masked_fill.Scalar(%c, %c, 0) : bool[8, 8]{8, 1}
    output user %d "d"
  })");
  const auto traits = [](const Graph&, const ir::Node& node) {
    OpTraits t;
    t.in_place_ok = t.first_operand_only = node.op == "aten.masked_fill.Scalar";
    return t;
  };
  const Result<MemoryPlan> plan = PlanMemory(g, traits);
  ASSERT_TRUE(plan.ok()) << plan.error().Format();
  auto same = [&](const char* p, const char* q) {
    return plan->locations[g.FindValue(p)].storage == plan->locations[g.FindValue(q)].storage;
  };
  EXPECT_FALSE(same("b", "m")) << "the mask";
  EXPECT_TRUE(same("c", "a"));
  EXPECT_FALSE(same("d", "c")) << "read twice";
  MemoryPlan wrong = *plan;
  wrong.storages[wrong.locations[g.FindValue("b")].storage].offset = StorageOf(g, wrong, "m").offset;
  EXPECT_TRUE(Mentions(CheckPlan(g, wrong, traits), "writes over its operand m"));
}

TEST(Plan, TiesShareAStorageAndStateIsPersistent) {
  const Graph g = Parse(R"(graph @g {
    input %w : f32[4, 4]{4, 1} parameter "head" grad
    input %e : f32[4, 4]{4, 1} parameter "embed" grad alias "head"
    input %m : f32[4, 4]{4, 1} state "head.exp_avg"
    input %lr : f64[]{} state "lr"
    %a = aten.mm.default(%w, %e) : f32[4, 4]{4, 1}
    output user %a "a"
  })");
  const MemoryPlan plan = Plan(g);
  EXPECT_EQ(plan.locations[g.FindValue("e")].storage, plan.locations[g.FindValue("w")].storage);
  EXPECT_EQ(StorageOf(g, plan, "m").kind, StorageKind::kOptimizer);
  EXPECT_EQ(StorageOf(g, plan, "lr").kind, StorageKind::kInput) << "written before each step, no state";
}

TEST(Plan, GradientsAreFinalAfterTheirReductionAndBeforeTheUpdate) {
  const Graph g = Parse(R"(graph @g {
    input %w : f32[64]{1} parameter "w" grad
    input %m : f32[64]{1} state "w.exp_avg"
    input %v : f32[64]{1} state "w.exp_avg_sq"
    input %lr : f64[]{} state "lr"
    input %step : i64[]{} state "step"
    %g = aten.neg.default(%w) : f32[64]{1} !phase backward
    autosp.all_reduce_(%g, "sum") !phase backward
    %n = autosp.grad_norm([%g]) : f64[]{} !phase step
    autosp.adamw_(%w, none, %g, %m, %v, none, %lr, %step, 0.9, 0.999, 1e-08, 0.01) !phase step
    %z = aten.neg.default(%w) : f32[64]{1} !phase step
    output gradient %g "w"
    output user %z "z"
  })");
  const MemoryPlan plan = Plan(g);
  EXPECT_EQ(plan.output_after[0], 1);
  EXPECT_EQ(StorageOf(g, plan, "g").kind, StorageKind::kGradient);
  EXPECT_EQ(StorageOf(g, plan, "g").last, 3) << "an output extends no lifetime, the update does";
  EXPECT_LE(plan.arena_bytes, 256 + 64);
}

TEST(Plan, ScratchLivesDuringItsInstruction) {
  const Graph g = Parse(R"(graph @g {
    input %x : f32[4, 8]{8, 1} user "x"
    %a = autosp.all_to_all(%x, 0, 8, 1, 4, false) : f32[8, 4]{4, 1}
    %b = aten.mm.default(%a, %x) : f32[8, 8]{8, 1}
    output user %b "b"
  })");
  const MemoryPlan plan = Plan(g);
  const Storage& staging = plan.storages[plan.scratch_of[g.producer(g.FindValue("a"))->id]];
  EXPECT_EQ(staging.kind, StorageKind::kCommunication);
  EXPECT_EQ(staging.bytes, 256);
  EXPECT_EQ(staging.first, 0);
  EXPECT_EQ(staging.last, 0);
  const Storage& scratch = plan.storages[plan.scratch_of[g.producer(g.FindValue("b"))->id]];
  EXPECT_EQ(scratch.kind, StorageKind::kWorkspace);
  EXPECT_EQ(scratch.bytes, 128);
}

TEST(Plan, SymbolicSizesAreRefused) {
  const Graph g = Parse(R"(graph @g {
    symbol s0 [1, 8]
    input %x : f32[s0]{1} user "x"
    %a = aten.relu.default(%x) : f32[s0]{1} !src "m.py:7"
    output user %a "a"
  })");
  const Result<MemoryPlan> plan = PlanMemory(g, Traits);
  ASSERT_FALSE(plan.ok());
  EXPECT_NE(plan.error().what.find("s0"), std::string::npos) << plan.error().Format();
}

// Planted faults: each must turn the checker red, by name.
TEST(Check, ABufferReusedTooEarly) {
  const Graph g = Parse(kChain);
  MemoryPlan plan = Plan(g);
  // b is put where a lies, although a is read once more through its view; the stated lifetime of a is cut, so
  // that only the contents betray it.
  Storage& a = plan.storages[plan.locations[g.FindValue("a")].storage];
  Storage& b = plan.storages[plan.locations[g.FindValue("b")].storage];
  a.last = 0;
  b.offset = a.offset;
  const auto violations = CheckPlan(g, plan, Traits);
  EXPECT_TRUE(Mentions(violations, "reads t at instruction 2, whose bytes hold b")) << violations.size();
  EXPECT_TRUE(Mentions(violations, "m.py:3"));
}

TEST(Check, TwoLiveBuffersOverlap) {
  const Graph g = Parse(kChain);
  MemoryPlan plan = Plan(g);
  plan.storages[plan.locations[g.FindValue("b")].storage].offset =
      plan.storages[plan.locations[g.FindValue("a")].storage].offset;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "a and b overlap"));
}

TEST(Check, InPlaceWhereTheOpMayNot) {
  const Graph g = Parse(kChain);
  const MemoryPlan plan = Plan(g);
  EXPECT_TRUE(CheckPlan(g, plan, Traits).empty());
  const auto violations = CheckPlan(g, plan, [](const Graph&, const ir::Node&) { return OpTraits{}; });
  EXPECT_TRUE(Mentions(violations, "writes over its operand c"));
}

TEST(Check, ScratchOverAnOperand) {
  const Graph g = Parse(kChain);
  MemoryPlan plan = Plan(g);
  Storage& scratch = plan.storages[plan.scratch_of[plan.instructions[2]]];
  scratch.offset = StorageOf(g, plan, "b").offset;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "writes over its operand b"));
}

TEST(Check, OutsideTheArenaOffAlignmentOutsideTheStorage) {
  const Graph g = Parse(kChain);
  const MemoryPlan good = Plan(g);
  const int a = good.locations[g.FindValue("a")].storage;
  MemoryPlan plan = good;
  plan.storages[a].offset = plan.arena_bytes;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "a ends at byte"));
  plan = good;
  plan.storages[a].offset += 32;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "no multiple of 64"));
  plan = good;
  plan.storages[a].bytes -= 4;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "t ends at byte 512 of a storage of 508"));
  plan = good;
  plan.locations[g.FindValue("t")].byte_offset = 4;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "t is a view of a and does not lie in it"));
  plan = good;
  plan.locations[g.FindValue("l")].storage = -1;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "l has no storage"));
  plan = good;
  plan.storages[0].offset = 0;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "x is persistent"));
}

TEST(Check, UseOutsideTheStatedLifetime) {
  const Graph g = Parse(kChain);
  MemoryPlan plan = Plan(g);
  plan.storages[plan.locations[g.FindValue("a")].storage].last = 1;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "a lives from instruction 0 to 1 and is used at 2"));
}

TEST(Check, AnOutputCapturedAfterItsBytesAreGone) {
  const Graph g = Parse(R"(graph @g {
    input %x : f32[16]{1} user "x"
    %a = aten.neg.default(%x) : f32[16]{1}
    %b = aten.neg.default(%x) : f32[16]{1}
    output user %a "a"
    output user %b "b"
  })");
  MemoryPlan plan = Plan(g);
  EXPECT_EQ(plan.arena_bytes, 64) << "a is captured before b takes its place";
  plan.output_after[0] = 1;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "output a reads a at instruction 1, whose bytes hold b"));
  plan.output_after[0] = 7;
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "output a is final at instruction 7, which is none"));
}

TEST(Check, APlanOfAnotherGraphOrOrder) {
  const Graph g = Parse(kChain);
  MemoryPlan plan = Plan(g);
  std::swap(plan.instructions[1], plan.instructions[2]);
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "out of order"));
  EXPECT_TRUE(Mentions(CheckPlan(g, MemoryPlan{}, Traits), "another graph"));
  plan = Plan(g);
  plan.instruction_of[plan.instructions.back()] = -1;
  plan.instructions.pop_back();
  EXPECT_TRUE(Mentions(CheckPlan(g, plan, Traits), "is left out"));
}

// Random graphs: values of some sizes, views, in-place ops and long lives.
Graph RandomGraph(std::mt19937& rng, int nodes) {
  Graph g;
  std::vector<ValueId> live;
  auto contiguous = [](int64_t r, int64_t c) { return std::vector<ir::Expr>{c, 1}; };
  for (int i = 0; i < 3; ++i) {
    ir::GraphInput in;
    in.kind = i == 0 ? ir::InputKind::kUser : ir::InputKind::kParameter;
    in.name = "in" + std::to_string(i);
    live.push_back(g.AddInput(in, in.name, ir::DType::kFloat32, {8, 8}, contiguous(8, 8)));
  }
  const char* ops[] = {"aten.relu.default", "aten.add.Tensor", "aten.mm.default", "aten.t.default", "aten.slice.Tensor"};
  for (int i = 0; i < nodes; ++i) {
    const ValueId x = live[live.size() - 1 - rng() % std::min<size_t>(live.size(), rng() % 4 == 0 ? live.size() : 4)];
    const ValueId y = live[live.size() - 1 - rng() % std::min<size_t>(live.size(), 6)];
    const int op = rng() % 5;
    const ir::Value& vx = g.value(x);
    std::vector<ir::Expr> sizes = vx.sizes, strides = vx.strides;
    std::vector<ir::Arg> args = {ir::Arg::Value(x)};
    if (op == 1 || op == 2) args.push_back(ir::Arg::Value(y));
    if (op == 2) {
      sizes = {ir::Expr(static_cast<int64_t>(1 + rng() % 20)), ir::Expr(8)};
      strides = contiguous(0, 8);
    }
    if (op == 3) {
      std::swap(sizes[0], sizes[1]);
      std::swap(strides[0], strides[1]);
    }
    const int64_t skip = op == 4 && sizes[0].value() > 1 ? 1 : 0;
    if (op == 4) sizes[0] = sizes[0].value() - skip;
    if (op < 2 && vx.base != ir::kNoValue) strides = {sizes[1].value(), 1};
    const int64_t offset = vx.byte_offset + skip * vx.strides[0].value() * 4;
    const ValueId base = vx.base == ir::kNoValue ? x : vx.base;
    const ValueId v = g.AddValue("v", ir::DType::kFloat32, sizes, strides);
    if (op >= 3) {
      g.value(v).base = base;
      g.value(v).byte_offset = offset;
    }
    g.AddNode(ops[op], args, {v});
    live.push_back(v);
    if (rng() % 8 == 0) g.outputs.push_back({v, ir::OutputKind::kUser, "o" + std::to_string(i)});
  }
  return g;
}

// Graphs of the size of an 8B model's step (7,000 nodes) and a 70B model's (18,000): plan and check together.
TEST(Plan, LargeGraphsAreQuick) {
  for (const auto& [nodes, limit_ms] : {std::pair{7000, 300}, std::pair{18000, 1000}}) {
    std::mt19937 rng(2);
    const Graph g = RandomGraph(rng, nodes);
    const auto start = std::chrono::steady_clock::now();
    const MemoryPlan plan = Plan(g);
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start).count();
    std::printf("%d nodes, %zu storages: %lld ms\n", nodes, plan.storages.size(), static_cast<long long>(ms));
    EXPECT_LT(ms, limit_ms * 3) << "three times the budget, for a busy machine";
    EXPECT_LE(plan.arena_bytes, plan.live_bytes * 1.05);
  }
}

// Which node wrote the bytes of each value that each instruction reads, told apart by executing over `plan`.
using Reads = std::vector<std::vector<std::pair<ValueId, ValueId>>>;
Reads Execute(const Graph& g, const MemoryPlan& plan) {
  std::vector<ValueId> memory(plan.arena_bytes, ir::kNoValue);
  Reads reads;
  auto range = [&](ValueId v) {
    const Storage& s = plan.storages[plan.locations[v].storage];
    return s.offset < 0 ? std::pair<int64_t, int64_t>{0, 0} : std::pair{s.offset, s.offset + s.bytes};
  };
  for (ir::NodeId id : plan.instructions) {
    reads.emplace_back();
    for (ValueId v : g.node(id).Operands()) {
      const auto [from, to] = range(v);
      for (int64_t b = from; b < to; ++b) {
        if (reads.back().empty() || reads.back().back() != std::pair{v, memory[b]}) reads.back().emplace_back(v, memory[b]);
      }
    }
    for (ValueId v : g.node(id).results) {
      const auto [from, to] = range(v);
      std::fill(memory.begin() + from, memory.begin() + to, v);
    }
    if (const int scratch = plan.scratch_of[id]; scratch >= 0) {
      const Storage& s = plan.storages[scratch];
      std::fill(memory.begin() + s.offset, memory.begin() + s.offset + s.bytes, ir::kNoValue);
    }
  }
  return reads;
}

TEST(Plan, RandomGraphsReadWhatWasWritten) {
  std::mt19937 rng(5);
  for (int i = 0; i < 150; ++i) {
    const Graph g = RandomGraph(rng, 5 + rng() % 60);
    ASSERT_TRUE(ir::Verify(g).empty()) << ir::Verify(g)[0];
    const MemoryPlan plan = Plan(g);
    const Reads reads = Execute(g, plan);
    for (const auto& of_node : reads) {
      for (const auto& [value, holds] : of_node) ASSERT_EQ(holds, Root(g, value)) << "graph " << i;
    }
  }
}

// A random storage of a random plan is moved or its reuse hastened: wherever execution then reads something else,
// the checker is red.
TEST(Check, RandomFaultsThatChangeWhatIsReadAreFound) {
  std::mt19937 rng(17);
  int wrong = 0;
  for (int i = 0; i < 400; ++i) {
    const Graph g = RandomGraph(rng, 10 + rng() % 40);
    MemoryPlan plan = Plan(g);
    std::vector<int> arena;
    for (size_t s = 0; s < plan.storages.size(); ++s) {
      if (plan.storages[s].offset >= 0) arena.push_back(static_cast<int>(s));
    }
    if (arena.size() < 2) continue;
    Storage& moved = plan.storages[arena[rng() % arena.size()]];
    const Storage& onto = plan.storages[arena[rng() % arena.size()]];
    if (onto.offset + moved.bytes > plan.arena_bytes) continue;
    moved.offset = onto.offset;
    bool differs = false;
    for (const auto& of_node : Execute(g, plan)) {
      for (const auto& [value, holds] : of_node) differs |= holds != Root(g, value);
    }
    wrong += differs;
    if (differs) {
      EXPECT_FALSE(CheckPlan(g, plan, Traits).empty()) << "graph " << i;
    }
  }
  EXPECT_GT(wrong, 50) << "the faults are faults";
}

}  // namespace
}  // namespace autospc::memory
