// Lowering of joint graphs, and the program's checker with planted faults.
#include "codegen/lower.h"

#include <algorithm>
#include <functional>

#include <gtest/gtest.h>

#include "codegen/check_program.h"
#include "codegen/cost.h"
#include "codegen/memory_report.h"
#include "passes/ir/parser.h"
#include "passes/ir/verifier.h"
#include "passes/step/register.h"
#include "runtime/package/oci.h"

namespace autospc::codegen {
namespace {

using program::ProgramT;

ir::Graph Parse(std::string_view text) {
  Result<ir::Graph> graph = ir::Parse(text);
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.error().Format());
  EXPECT_TRUE(ir::Verify(*graph).empty()) << ir::Verify(*graph)[0];
  return std::move(*graph);
}

// Two ranks, a weight with a transposed view, a frozen and a tied name, a buffer, a loss.
constexpr std::string_view kModel = R"(graph @model {
  input %ids : f32[8, 16]{16, 1} user "ids" seq_dim 0
  input %w : f32[32, 16]{16, 1} parameter "fc.weight" grad
  input %tied : f32[32, 16]{16, 1} parameter "head.weight" alias "fc.weight"
  input %scale : f32[32]{1} parameter "scale"
  input %count : i64[]{} buffer "count"
  %local = autosp.shard(%ids, 0, 4, false) : f32[4, 16]{16, 1} !src "model.py:10"
  %vw = autosp.vary(%w) : f32[32, 16]{16, 1} base %w !src "model.py:11"
  %wt = aten.t.default(%vw) : f32[16, 32]{1, 16} base %w !src "model.py:11"
  %y = aten.mm.default(%local, %wt) : f32[4, 32]{32, 1} !src "model.py:11"
  %z = aten.mul.Tensor(%y, %scale) : f32[4, 32]{32, 1} !src "model.py:12"
  %part = aten.sum.default(%z, none) : f32[]{} !src "model.py:13"
  %loss = autosp.all_reduce(%part, "sum") : f32[]{} !src "model.py:13"
  %next = aten.add.Tensor(%count, 1, 1) : i64[]{}
  %one = aten.ones_like.default(%z, none, none, none, none, none) : f32[4, 32]{32, 1} !phase backward
  %gz = aten.mul.Tensor(%one, %scale) : f32[4, 32]{32, 1} !phase backward !src "model.py:12"
  %gt = aten.t.default(%gz) : f32[32, 4]{1, 32} base %gz !phase backward
  %gw = aten.mm.default(%gt, %local) : f32[32, 16]{16, 1} !phase backward !src "model.py:11"
  %rw = autosp.all_reduce(%gw, "sum") : f32[32, 16]{16, 1} !phase backward !src "model.py:11"
  output loss %loss "loss"
  output gradient %rw "fc.weight"
  output buffer_update %next "count"
})";

LowerOptions Options() {
  LowerOptions options;
  options.mesh = 2;
  options.seq_len = 8;
  options.batch = 1;
  options.has_out = [](const std::string& op) { return op != "aten.ones_like.default"; };
  return options;
}

ProgramT Program(const std::string& optimizer = "adamw") {
  ir::Graph graph = Parse(kModel);
  PassContext context;
  context.ranks = 2;
  context.optimizer = optimizer;
  context.notes.push_back({"gathered x", "no rule", "model.py:10", 512, 3});
  for (auto pass : {step::BucketGradients, step::AddOptimizer, step::WriteBuffers}) {
    const Result<bool> changed = pass(graph, context);
    EXPECT_TRUE(changed.ok()) << (changed.ok() ? "" : changed.error().Format());
  }
  Result<ProgramT> program = Lower(graph, context, Options());
  EXPECT_TRUE(program.ok()) << (program.ok() ? "" : program.error().Format());
  return std::move(*program);
}

int IndexOf(const ProgramT& p, std::string_view op) {
  for (size_t i = 0; i < p.instructions.size(); ++i) {
    if (p.instructions[i]->op == op) return static_cast<int>(i);
  }
  return -1;
}

const program::OutputT& Output(const ProgramT& p, program::OutputKind kind) {
  for (const auto& out : p.outputs) {
    if (out->kind == kind) return *out;
  }
  ADD_FAILURE() << "no such output";
  return *p.outputs[0];
}

const program::StorageT& StorageOf(const ProgramT& p, int tensor) { return *p.storages[p.tensors[tensor]->storage]; }

TEST(Lower, ViewsAreTensorsAndNoInstructions) {
  const ProgramT p = Program();
  for (const auto& n : p.instructions) {
    EXPECT_NE(n->op, "autosp.vary");
    EXPECT_NE(n->op, "aten.t.default");
    EXPECT_NE(n->op, "aten.as_strided.default");
  }
  const auto& mm = *p.instructions[IndexOf(p, "aten.mm.default")];
  const auto& wt = *p.tensors[mm.args[1]->tensor];
  EXPECT_EQ(wt.sizes, (std::vector<int64_t>{16, 32}));
  EXPECT_EQ(wt.strides, (std::vector<int64_t>{1, 16}));
  EXPECT_EQ(p.storages[wt.storage]->name, "fc.weight");
  EXPECT_EQ(p.storages[wt.storage]->kind, program::StorageKind::Parameter);
  EXPECT_EQ(p.sources[mm.source], "model.py:11");
  EXPECT_EQ(mm.outputs.size(), 1u);
}

TEST(Lower, HeaderInputsNamesAndNotes) {
  const ProgramT p = Program();
  EXPECT_EQ(p.format_version, kFormatVersion);
  EXPECT_EQ(p.world_size, 2);
  EXPECT_EQ(p.seq_len, 8);
  EXPECT_EQ(p.optimizer, "adamw");
  ASSERT_EQ(p.inputs.size(), 1u);
  EXPECT_EQ(p.inputs[0]->name, "ids");
  EXPECT_EQ(p.inputs[0]->seq_dim, 0);
  EXPECT_EQ(StorageOf(p, p.inputs[0]->tensor).kind, program::StorageKind::Input);
  EXPECT_EQ(p.aliases, (std::vector<std::string>{"head.weight", "fc.weight"}));
  EXPECT_EQ(p.frozen, (std::vector<std::string>{"head.weight", "scale"}));
  ASSERT_EQ(p.scalars.size(), 2u);
  EXPECT_EQ(p.scalars[0]->name, "lr");
  EXPECT_EQ(p.tensors[p.scalars[1]->tensor]->dtype, program::DType::Int64);
  ASSERT_EQ(p.notes.size(), 1u);
  EXPECT_EQ(p.notes[0]->bytes, 512);
  int optimizer_states = 0;
  for (const auto& s : p.storages) optimizer_states += s->kind == program::StorageKind::Optimizer;
  EXPECT_EQ(optimizer_states, 2) << "the scalars are no state";
}

TEST(Lower, OutputsAreFinalWhenTheyAre) {
  const ProgramT p = Program();
  EXPECT_EQ(Output(p, program::OutputKind::Loss).after, IndexOf(p, "autosp.all_reduce"));
  const auto& gradient = Output(p, program::OutputKind::Gradient);
  EXPECT_EQ(gradient.after, IndexOf(p, "autosp.all_reduce_"));
  EXPECT_LT(gradient.after, IndexOf(p, "autosp.adamw_"));
  EXPECT_EQ(StorageOf(p, gradient.tensor).kind, program::StorageKind::Gradient);
  EXPECT_EQ(Output(p, program::OutputKind::GradNorm).name, "grad_norm");
  const auto& buffer = Output(p, program::OutputKind::BufferUpdate);
  EXPECT_EQ(buffer.after, IndexOf(p, "aten.copy_.default"));
  EXPECT_EQ(StorageOf(p, buffer.tensor).kind, program::StorageKind::Buffer);
  EXPECT_TRUE(p.instructions[buffer.after]->outputs.empty()) << "an op that writes its operand has no output";
}

TEST(Lower, CollectivesAndFlops) {
  const ProgramT p = Program();
  ASSERT_EQ(p.collectives.size(), 2u);
  EXPECT_EQ(p.collectives[0]->op, "autosp.all_reduce");
  EXPECT_EQ(p.collectives[0]->bytes, 4);
  EXPECT_EQ(p.collectives[1]->bytes, 32 * 16 * 4);
  EXPECT_EQ(p.collectives[1]->why, "gradients");
  EXPECT_EQ(p.collectives[1]->instruction, IndexOf(p, "autosp.all_reduce_"));
  EXPECT_GT(p.flops, 2 * 2 * 4 * 16 * 32);
  EXPECT_LT(p.flops, 2 * 2 * 4 * 16 * 32 + 4000);
}

TEST(Lower, ScratchIsAStorageOfItsInstruction) {
  const ProgramT p = Program();
  const int at = IndexOf(p, "autosp.all_reduce_");
  const auto& staging = *p.storages[p.instructions[at]->workspace];
  EXPECT_EQ(staging.kind, program::StorageKind::Communication);
  EXPECT_EQ(staging.bytes, 32 * 16 * 4);
  EXPECT_EQ(staging.first, at);
  EXPECT_EQ(staging.last, at);
  EXPECT_EQ(p.instructions[IndexOf(p, "autosp.adamw_")]->workspace, -1);
}

TEST(Lower, IsDeterministic) {
  auto bytes = [](const ProgramT& p) {
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(program::Program::Pack(builder, &p));
    return std::vector<uint8_t>(builder.GetBufferPointer(), builder.GetBufferPointer() + builder.GetSize());
  };
  EXPECT_EQ(bytes(Program()), bytes(Program()));
}

TEST(Lower, ElementwiseResultsLieOnDyingOperands) {
  const ProgramT p = Program("none");
  const auto& mul = *p.instructions[IndexOf(p, "aten.mul.Tensor")];
  EXPECT_EQ(p.tensors[mul.outputs[0]]->storage, p.tensors[mul.args[0]->tensor]->storage);
}

TEST(Lower, BadPredicatesAndRanksAreRefused) {
  ir::Graph g = Parse(R"(graph @g {
    input %q : f32[1, 1, 4, 8]{32, 32, 8, 1} user "q"
    %o, %l = autosp.attention(%q, %q, %q, values[], "diff(0", 0.25, false, 4, [], false, 1, 0.0, 0)
      : f32[1, 1, 4, 8]{32, 8, 8, 1}, f32[1, 1, 4]{4, 4, 1} !src "attn.py:3"
    output user %o "o"
  })");
  const Result<ProgramT> program = Lower(g, PassContext{}, LowerOptions{});
  ASSERT_FALSE(program.ok());
  EXPECT_EQ(program.error().code, Code::kBadInput);
  EXPECT_EQ(program.error().where.find("attn.py:3"), 0u) << program.error().Format();
  LowerOptions none;
  none.mesh = 0;
  EXPECT_EQ(Lower(g, PassContext{}, none).error().code, Code::kUsage);
}

TEST(Lower, SymbolicArgumentsAreRefused) {
  const ir::Graph g = Parse(R"(graph @g {
    symbol s0 [1, 8]
    input %x : f32[4]{1} user "x"
    %y = aten.add.Tensor(%x, s0, 1) : f32[4]{1} !src "m.py:2"
    output user %y "y"
  })");
  const Result<ProgramT> program = Lower(g, PassContext{}, LowerOptions{});
  ASSERT_FALSE(program.ok());
  EXPECT_NE(program.error().what.find("s0"), std::string::npos);
  EXPECT_EQ(program.error().where, "m.py:2");
}

// Each planted fault turns the program's checker red and is named.
TEST(Lower, WhatRunsForEachMicroBatchCountsAsOften) {
  const ir::Graph graph = Parse(R"(graph @micro {
    input %x : f32[64]{1} user "x"
    %sum = aten.zeros.default([64], none, none, none, none) : f32[64]{1}
    autosp.each_micro_batch_(3)
    %a = aten.exp.default(%x) : f32[64]{1}
    autosp.accumulate_(%sum, %a) !phase backward
    autosp.micro_batches_end_() !phase backward
    %l = aten.dot.default(%sum, %sum) : f32[]{} !phase backward
    output loss %l "loss"
  })");
  LowerOptions options = Options();
  options.mesh = 1;
  const Result<ProgramT> program = Lower(graph, PassContext(), options);
  ASSERT_TRUE(program.ok()) << program.error().Format();
  EXPECT_EQ(program->flops, 64 + 3 * (64 + 64) + 2 * 64);
  EXPECT_EQ(CostOfStep(graph, Mesh(1), CpuRates()).total.flops, program->flops);
  ir::Graph late = graph;  // reads what the last micro-batch alone has left
  late.node(late.value(late.FindValue("l")).producer).args[1].value = late.FindValue("a");
  const Result<ProgramT> refused = Lower(late, PassContext(), options);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().what.find("'a' is of the last micro-batch"), std::string::npos) << refused.error().what;
}

TEST(CheckProgram, PlantedFaults) {
  struct Fault {
    const char* message;
    std::function<void(ProgramT&)> plant;
  };
  const auto arena = [](ProgramT& p, int nth) -> program::StorageT& {
    for (auto& s : p.storages) {
      if (s->arena_offset >= 0 && nth-- == 0) return *s;
    }
    return *p.storages[0];
  };
  const Fault faults[] = {
      {"no multiple of 64", [&](ProgramT& p) { arena(p, 0).arena_offset += 4; }},
      {"of an arena of", [&](ProgramT& p) { arena(p, 0).arena_offset = p.arena_bytes; }},
      {"is persistent and lies in the arena", [](ProgramT& p) { p.storages[0]->arena_offset = 0; }},
      {"has -1 bytes", [](ProgramT& p) { p.storages[0]->bytes = -1; }},
      {"lives from", [&](ProgramT& p) { arena(p, 0).last = 1000; }},
      {"of a storage of", [](ProgramT& p) { p.tensors[0]->byte_offset = 4; }},
      {"names storage", [](ProgramT& p) { p.tensors[0]->storage = 1000; }},
      {"sizes and", [](ProgramT& p) { p.tensors[0]->strides.pop_back(); }},
      {"negative size or stride", [](ProgramT& p) { p.tensors[0]->strides[0] = -1; }},
      {"names tensor", [](ProgramT& p) { p.instructions[0]->args[0]->tensor = 1000; }},
      {"touches", [&](ProgramT& p) { arena(p, 0).last = arena(p, 0).first; }},
      {"writes its result over the", [](ProgramT& p) { p.instructions[0]->outputs[0] = p.inputs[0]->tensor; }},
      {"names workspace", [](ProgramT& p) { p.instructions[0]->workspace = 1000; }},
      {"has a workspace that lives", [](ProgramT& p) { p.instructions[0]->workspace = 0; }},
      {"names source", [](ProgramT& p) { p.instructions[0]->source = 1000; }},
      {"is final after", [](ProgramT& p) { p.outputs[0]->after = 1000; }},
      {"lies in the arena", [](ProgramT& p) { p.inputs[0]->tensor = p.instructions[0]->outputs[0]; }},
  };
  for (const Fault& fault : faults) {
    ProgramT p = Program();
    ASSERT_TRUE(CheckProgram(p).empty());
    fault.plant(p);
    const auto violations = CheckProgram(p);
    EXPECT_TRUE(std::any_of(violations.begin(), violations.end(), [&](const std::string& v) {
      return v.find(fault.message) != std::string::npos;
    })) << fault.message << ": " << (violations.empty() ? "green" : violations[0]);
  }
}

TEST(CheckProgram, ABufferReusedTooEarly) {
  ProgramT p = Program();
  // Every arena storage on top of another that is alive with it.
  int planted = 0;
  for (size_t a = 0; a < p.storages.size(); ++a) {
    for (size_t b = 0; b < p.storages.size(); ++b) {
      const auto &x = *p.storages[a], &y = *p.storages[b];
      if (a == b || x.arena_offset < 0 || y.arena_offset < 0 || x.first > y.last || y.first > x.last) continue;
      if (y.arena_offset + x.bytes > p.arena_bytes) continue;
      ProgramT faulty(p);
      faulty.storages[a]->arena_offset = y.arena_offset;
      const auto violations = CheckProgram(faulty);
      ASSERT_FALSE(violations.empty()) << x.name << " on " << y.name;
      EXPECT_NE(violations[0].find("overlap"), std::string::npos);
      ++planted;
    }
  }
  EXPECT_GT(planted, 5);
}

TEST(MemoryReport, KindsAtThePeak) {
  const ProgramT p = Program();
  const MemoryReport report = ReportMemory(p, 3);
  EXPECT_EQ(report.by_kind[static_cast<size_t>(program::StorageKind::Parameter)], (32 * 16 + 32) * 4);
  EXPECT_EQ(report.by_kind[static_cast<size_t>(program::StorageKind::Optimizer)], 2 * 32 * 16 * 4);
  EXPECT_EQ(report.by_kind[static_cast<size_t>(program::StorageKind::Input)], 8 * 16 * 4 + 8 + 8);
  int64_t alive = 0;
  for (auto kind : {program::StorageKind::Gradient, program::StorageKind::Activation, program::StorageKind::Workspace,
                    program::StorageKind::Communication}) {
    alive += report.by_kind[static_cast<size_t>(kind)];
  }
  EXPECT_EQ(alive, report.live_bytes);
  EXPECT_LE(report.live_bytes, report.arena_bytes);
  ASSERT_EQ(report.largest.size(), 3u);
  EXPECT_GE(p.storages[report.largest[0]]->bytes, p.storages[report.largest[1]]->bytes);
  EXPECT_GE(report.peak_instruction, 0);
}

}  // namespace
}  // namespace autospc::codegen
