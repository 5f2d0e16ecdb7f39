// The executor itself: the three ways to run an op, memory, updates of buffers, malformed programs.
#include <ATen/ATen.h>

#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::OutputKind;
using program::StorageKind;

TEST(ExecutorTest, RunsEachWayInPlannedLayouts) {
  ProgramBuilder b;
  const at::Tensor x = at::randn({6, 4});
  const int in = b.Like(x), sum = b.Tensor(at::kFloat, {6, 4}, {1, 6}, StorageKind::Activation);
  const int flipped = b.Tensor(at::kFloat, {6, 4}, {1, 6}, StorageKind::Activation);
  const int copy = b.Tensor(at::kFloat, {6, 4}, {}, StorageKind::Activation);
  b.Add("aten.add.Tensor", {B::T(in), B::F(0.5), B::I(2)}, {sum});  // a number in a tensor's place
  b.Add("aten.flip.default", {B::T(sum), B::Is({0})}, {flipped});
  b.Add("aten.clone.default", {B::T(flipped), B::None()}, {copy});
  b.Add("aten.mul_.Tensor", {B::T(copy), B::T(in)}, {});
  auto e = b.Build();
  ASSERT_TRUE(e.ok()) << e.error().Format();
  (*e)->tensor(in).copy_(x);
  ASSERT_TRUE((*e)->Step({}).ok());
  EXPECT_EQ((*e)->way(0), Way::kOut);
  EXPECT_EQ((*e)->way(1), Way::kFallback);
  EXPECT_EQ((*e)->way(2), Way::kOwn);
  EXPECT_EQ((*e)->way(3), Way::kInPlace);
  EXPECT_TRUE(at::equal((*e)->tensor(copy), (x + 1).flip({0}) * x));
  EXPECT_EQ((*e)->OutsideBytes(), 0);
}

TEST(ExecutorTest, WhatTheWorkspaceDoesNotHoldIsCountedAndNamed) {
  ProgramBuilder b;
  const int in = b.Tensor(at::kFloat, {1000}), out = b.Tensor(at::kFloat, {1000}, {}, StorageKind::Activation);
  b.Add("aten.flip.default", {B::T(in), B::Is({0})}, {out});
  b.program().instructions[0]->workspace = -1;
  auto e = b.Build();
  ASSERT_TRUE(e.ok());
  ASSERT_TRUE((*e)->Step({}).ok());
  EXPECT_GE((*e)->OutsideBytes(), 4000);
  EXPECT_EQ((*e)->outside_by_instruction()[0], (*e)->OutsideBytes());
}

// An output is handed over when it is final, though its memory is used again; a buffer that is still read gets its
// new value at the step's end.
TEST(ExecutorTest, OutputsAndUpdates) {
  ProgramBuilder b;
  const int buffer = b.Tensor(at::kFloat, {2}, {}, StorageKind::Buffer, "mean");
  const int x = b.Tensor(at::kFloat, {2}, {}, StorageKind::Activation),
            y = b.Tensor(at::kFloat, {2}, {}, StorageKind::Activation);
  b.Add("aten.add.Tensor", {B::T(buffer), B::I(1), B::I(1)}, {x});
  b.Add("aten.mul.Tensor", {B::T(buffer), B::I(10)}, {y});
  b.Add("aten.fill.Scalar", {B::T(x), B::F(-1)}, {x});
  b.Output(OutputKind::BufferUpdate, "mean", x, 0);
  b.Output(OutputKind::Loss, "loss", y, 1);
  auto e = b.Build();
  ASSERT_TRUE(e.ok()) << e.error().Format();
  std::vector<float> losses;
  for (int step = 0; step < 3; ++step) {
    ASSERT_TRUE((*e)->Step([&](const program::OutputT& out, const at::Tensor& value) {
                      if (out.kind == OutputKind::Loss) losses.push_back(value[0].item<float>());
                      return Ok();
                    })
                    .ok());
  }
  EXPECT_EQ(losses, (std::vector<float>{0, 10, 20}));
  EXPECT_EQ((*e)->tensor(buffer)[1].item<float>(), 3);
}

// sum = 0; for each of three micro-batches sum += x; loss = 2 * sum.
struct MicroBatched {
  ProgramBuilder b;
  int x, sum, loss;
  MicroBatched() {
    x = b.Tensor(at::kFloat, {});
    sum = b.Tensor(at::kFloat, {}, {}, StorageKind::Activation);
    loss = b.Tensor(at::kFloat, {}, {}, StorageKind::Activation);
    b.Add("aten.zeros.default", {B::Is({}), B::None(), B::None(), B::None(), B::None()}, {sum});
    b.Add("autosp.each_micro_batch_", {B::I(3)}, {});
    b.Add("autosp.accumulate_", {B::T(sum), B::T(x)}, {});
    b.Add("autosp.micro_batches_end_", {}, {});
    b.Add("aten.mul.Tensor", {B::T(sum), B::F(2)}, {loss});
    b.Output(OutputKind::Loss, "loss", loss, 4);
  }
};

TEST(ExecutorTest, AStepGoesRoundItsMicroBatches) {
  MicroBatched m;
  auto e = m.b.Build();
  ASSERT_TRUE(e.ok()) << e.error().Format();
  std::vector<float> losses;
  const auto told = [&](const program::OutputT&, const at::Tensor& value) {
    losses.push_back(value.item<float>());
    return Ok();
  };
  EXPECT_EQ((*e)->micro_batches(), 3);
  for (int call = 0; call < 6; ++call) {
    EXPECT_EQ((*e)->steps(), call / 3);
    EXPECT_EQ((*e)->micro_batch(), call % 3);
    (*e)->tensor(m.x).fill_(call + 1);
    ASSERT_TRUE((*e)->Step(told).ok());
  }
  EXPECT_EQ(losses, (std::vector<float>{2 * (1 + 2 + 3), 2 * (4 + 5 + 6)})) << "once a step, from nothing each time";
  EXPECT_EQ((*e)->steps(), 2);
  losses.clear();
  ASSERT_TRUE((*e)->Evaluate(told).ok());
  EXPECT_EQ(losses, (std::vector<float>{2 * 6})) << "an evaluation is of one micro-batch";
}

// Draws differ from micro-batch to micro-batch, as from step to step.
TEST(ExecutorTest, EachMicroBatchDrawsAnew) {
  ProgramBuilder b;
  const int x = b.Tensor(at::kFloat, {64}), y = b.Tensor(at::kFloat, {64}, {}, StorageKind::Activation);
  b.Add("autosp.each_micro_batch_", {B::I(2)}, {});
  b.Add("autosp.dropout", {B::T(x), B::F(0.5), B::I(0), B::I(-1), B::I(0), B::I(1), B::I(1)}, {y});
  b.Add("autosp.micro_batches_end_", {}, {});
  auto e = b.Build();
  ASSERT_TRUE(e.ok()) << e.error().Format();
  (*e)->tensor(x).fill_(1);
  std::vector<at::Tensor> drawn;
  for (int call = 0; call < 4; ++call) {
    ASSERT_TRUE((*e)->Step({}).ok());
    for (const at::Tensor& before : drawn) EXPECT_FALSE(at::equal((*e)->tensor(y), before)) << call;
    drawn.push_back((*e)->tensor(y).clone());
  }
}

TEST(ExecutorTest, MicroBatchesThatDoNotEndAreMalformed) {
  MicroBatched m;
  m.b.program().instructions[3]->op = "autosp.each_micro_batch_";
  const auto e = m.b.Build();
  ASSERT_FALSE(e.ok());
  EXPECT_EQ(e.error().code, Code::kBadInput);
}

TEST(ExecutorTest, AnErrorNamesInstructionAndSource) {
  ProgramBuilder b;
  const int table = b.Tensor(at::kFloat, {4, 2}), index = b.Tensor(at::kLong, {3}),
            out = b.Tensor(at::kFloat, {3, 2}, {}, StorageKind::Activation);
  b.Add("aten.embedding.default", {B::T(table), B::T(index), B::I(-1), B::B(false), B::B(false)}, {out});
  b.program().sources = {"model.py:12"};
  b.program().instructions[0]->source = 0;
  auto e = b.Build();
  ASSERT_TRUE(e.ok());
  (*e)->tensor(index).fill_(4);
  const Status status = (*e)->Step({});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kFailed);
  EXPECT_NE(status.error().where.find("rank 0: instruction 0 of 1 (aten.embedding.default), from model.py:12"), std::string::npos)
      << status.error().where;
}

// Each breaks a sound program in one place.
TEST(ExecutorTest, MalformedProgramsAreRefused) {
  struct Fault {
    std::string says;
    std::function<void(program::ProgramT&)> plant;
    Code code = Code::kBadInput;
  };
  const std::vector<Fault> faults = {
      {"reaches outside its storage", [](auto& p) { p.tensors[0]->sizes[0] = 1000; }},
      {"reaches outside its storage", [](auto& p) { p.tensors[0]->byte_offset = -8; }},
      {"reaches outside its storage", [](auto& p) { p.tensors[0]->strides[0] = int64_t{1} << 62; }},
      {"has no storage", [](auto& p) { p.tensors[0]->storage = 99; }},
      {"outside the arena", [](auto& p) { p.storages[1]->arena_offset = p.arena_bytes; }},
      {"not aligned", [](auto& p) { p.storages[1]->arena_offset = 4; }},
      {"operand does not exist", [](auto& p) { p.instructions[0]->args[0]->tensor = 99; }},
      {"result does not exist", [](auto& p) { p.instructions[0]->outputs[0] = 99; }},
      {"workspace does not exist", [](auto& p) { p.instructions[0]->workspace = 99; }},
      {"has no op", [](auto& p) { p.instructions[0]->op = "aten.nothing.default"; }, Code::kUnsupported},
      {"no argument \"self\"", [](auto& p) { p.instructions[0]->args.clear(); }},
      {"has no tensor", [](auto& p) { p.outputs[0]->tensor = 99; }},
      {"no persistent storage", [](auto& p) { p.outputs[0]->kind = OutputKind::BufferUpdate; }},
      {"compiled for 2 ranks", [](auto& p) { p.world_size = 2; }},
  };
  for (const Fault& fault : faults) {
    SCOPED_TRACE(fault.says);
    ProgramBuilder b;
    const int in = b.Tensor(at::kFloat, {3}), out = b.Tensor(at::kFloat, {3}, {}, StorageKind::Activation);
    b.Add("aten.exp.default", {B::T(in)}, {out});
    b.Output(OutputKind::User, "y", out, 0);
    ASSERT_TRUE(b.Build().ok());
    fault.plant(b.program());
    const auto e = b.Build();
    ASSERT_FALSE(e.ok());
    EXPECT_EQ(e.error().code, fault.code);
    EXPECT_NE(e.error().Format().find(fault.says), std::string::npos) << e.error().Format();
  }
}

}  // namespace
}  // namespace autospc::exec
