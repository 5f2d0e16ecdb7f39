// Programs by hand that make a NaN or an infinity, or only seem to.
#include "runtime/exec/call.h"
#include "runtime/train/check_numerics.h"

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <limits>

#include "runtime/train/loop.h"
#include "tests/exec/programs.h"

namespace autospc::train {
namespace {

using B = exec::ProgramBuilder;
using program::StorageKind;

constexpr double kInf = std::numeric_limits<double>::infinity();

int Arena(B* b, std::vector<int64_t> sizes, const std::string& name) {
  return b->Tensor(at::kFloat, std::move(sizes), {}, StorageKind::Activation, name);
}

// The error of one step of a one-rank program, or Ok.
Status Checked(const B& b, const std::function<void(exec::Executor&)>& fill) {
  auto e = b.Build();
  if (!e.ok()) return e.error();
  fill(**e);
  NumericsCheck check(e->get());
  (*e)->AddObserver(&check);
  const auto single = MakeSingleCommunicator();
  return check.Agree(7, (*e)->Step({}), single.get());
}

TEST(CheckNumericsTest, NamesWhatMadeTheFirstNan) {
  B b;
  const int x = b.Tensor(at::kFloat, {2, 3}, {}, StorageKind::Input, "x");
  const int log = Arena(&b, {2, 3}, "log_1"), sum = Arena(&b, {2, 3}, "add");
  b.Add("aten.log.default", {B::T(x)}, {log});
  b.Add("aten.add.Tensor", {B::T(log), B::T(x), B::I(1)}, {sum});
  b.program().sources = {"model.py:12"};
  b.program().instructions[0]->source = 0;
  const Status status = Checked(b, [&](exec::Executor& e) {
    e.tensor(x).fill_(1);
    e.tensor(x)[1][2].fill_(-1);
    e.tensor(x)[1][0].fill_(-2);
  });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kFailed);
  EXPECT_EQ(status.error().what,
            "step 7: aten.log.default makes the first NaN: 2 of 6 elements of log_1 Float32 [2, 3], the first at [1, 0]");
  EXPECT_EQ(status.error().where, "instruction 0 (aten.log.default) of rank 0, from model.py:12");
}

TEST(CheckNumericsTest, AMaskOfMinusInfinityIsMeant) {
  B b;
  const int x = b.Tensor(at::kFloat, {2, 3}, {}, StorageKind::Input, "x");
  const int mask = b.Tensor(at::kBool, {2, 3}, {}, StorageKind::Input, "mask");
  const int table = b.Tensor(at::kFloat, {2, 3}, {}, StorageKind::Constant, "table");
  const int scores = Arena(&b, {2, 3}, "scores"), more = Arena(&b, {2, 3}, "more"), p = Arena(&b, {2, 3}, "p");
  b.Add("aten.masked_fill.Scalar", {B::T(x), B::T(mask), B::F(-kInf)}, {scores});
  b.Add("aten.add.Tensor", {B::T(scores), B::T(table), B::I(1)}, {more});
  b.Add("aten._softmax.default", {B::T(more), B::I(-1), B::B(false)}, {p});
  const auto fill = [&](exec::Executor& e) {
    e.tensor(mask)[0][1].fill_(true);
    e.tensor(table)[1][2].fill_(-kInf);
  };
  const Status status = Checked(b, fill);
  EXPECT_TRUE(status.ok()) << status.error().Format();
  // A row without any key is where the softmax makes a NaN of it.
  const Status empty = Checked(b, [&](exec::Executor& e) {
    fill(e);
    e.tensor(mask)[0].fill_(true);
  });
  ASSERT_FALSE(empty.ok());
  EXPECT_NE(empty.error().what.find("aten._softmax.default makes the first NaN: 3 of 6"), std::string::npos) << empty.error().Format();
}

TEST(CheckNumericsTest, AnInfinityIsToldWithTheNanThatComesOfIt) {
  B b;
  const int x = b.Tensor(at::kFloat, {4}, {}, StorageKind::Input, "x");
  const int exp = Arena(&b, {4}, "exp"), difference = Arena(&b, {4}, "sub");
  b.Add("aten.exp.default", {B::T(x)}, {exp});
  b.Add("aten.sub.Tensor", {B::T(exp), B::T(exp), B::I(1)}, {difference});
  const Status status = Checked(b, [&](exec::Executor& e) { e.tensor(x)[3].fill_(1000); });
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().what.find("aten.exp.default makes the first infinity: 1 of 4"), std::string::npos);
  EXPECT_NE(status.error().hint.find("aten.sub.Tensor makes the first NaN: 1 of 4"), std::string::npos) << status.error().Format();
  EXPECT_NE(status.error().hint.find("instruction 1"), std::string::npos);
}

TEST(CheckNumericsTest, WhatIsWrittenInPlaceIsLookedAt) {
  B b;
  const int x = b.Tensor(at::kFloat, {4}, {}, StorageKind::Parameter, "w");
  b.Add("aten.mul_.Tensor", {B::T(x), B::F(1e30)}, {});
  const Status status = Checked(b, [&](exec::Executor& e) { e.tensor(x).fill_(1e30); });
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().what.find("aten.mul_.Tensor makes the first infinity: 4 of 4 elements of w"), std::string::npos) << status.error().Format();
}

TEST(CheckNumericsTest, WeightsAreLookedAtBeforeTheStep) {
  B b;
  const int w = b.Tensor(at::kFloat, {2, 2}, {}, StorageKind::Parameter, "w"), y = Arena(&b, {2, 2}, "y");
  b.Add("aten.mm.default", {B::T(w), B::T(w)}, {y});
  const Status status = Checked(b, [&](exec::Executor& e) { e.tensor(w)[0][1].fill_(std::numeric_limits<double>::quiet_NaN()); });
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().what,
            "step 7: Parameter \"w\" holds 1 NaN and 0 infinite of 4 elements before the step begins, the first at [0, 1]");
  EXPECT_EQ(status.error().where, "rank 0");
}

TEST(CheckNumericsTest, AllRanksAgreeOnTheFirst) {
  B b(2);
  const int x = b.Tensor(at::kFloat, {2}, {}, StorageKind::Input, "x"), log = Arena(&b, {2}, "log"), all = Arena(&b, {4}, "all");
  b.Add("aten.log.default", {B::T(x)}, {log});
  b.Add("autosp.all_gather", {B::T(log), B::I(0), B::I(4), B::B(false)}, {all});
  auto communicators = MakeInProcessCommunicators(2);
  std::vector<Status> results(2, Ok());
  std::vector<std::unique_ptr<exec::Executor>> executors;
  for (int r = 0; r < 2; ++r) {
    auto e = b.Build(r, communicators[r].get());
    ASSERT_TRUE(e.ok()) << e.error().Format();
    (*e)->tensor(x).fill_(r == 1 ? -1 : 1);
    executors.push_back(std::move(e).value());
  }
  std::vector<std::thread> threads;
  for (int r = 0; r < 2; ++r) {
    threads.emplace_back([&, r] {
      NumericsCheck check(executors[r].get());
      executors[r]->AddObserver(&check);
      results[r] = check.Agree(1, executors[r]->Step({}), communicators[r].get());
    });
  }
  for (std::thread& t : threads) t.join();
  for (const Status& status : results) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().where, "instruction 0 (aten.log.default) of rank 1");
  }
}

// The places of the arguments that an op writes.
std::vector<size_t> WrittenArguments(const std::string& op) {
  const std::vector<bool> writes = exec::WrittenArguments(op);
  std::vector<size_t> places;
  for (size_t i = 0; i < writes.size(); ++i) {
    if (writes[i]) places.push_back(i);
  }
  return places;
}

TEST(CheckNumericsTest, KnowsWhatAnOpWrites) {
  EXPECT_EQ(WrittenArguments("aten.mul_.Tensor"), (std::vector<size_t>{0}));
  EXPECT_EQ(WrittenArguments("aten.mul.Tensor"), (std::vector<size_t>{}));
  EXPECT_EQ(WrittenArguments("autosp.adamw_"), (std::vector<size_t>{0, 1, 3, 4}));
  EXPECT_EQ(WrittenArguments("autosp.all_reduce_coalesced_"), (std::vector<size_t>{0}));
  EXPECT_EQ(WrittenArguments("autosp.all_reduce"), (std::vector<size_t>{}));
}

TEST(CheckFiniteTest, SaysWhatToDo) {
  StepRecord record;
  record.step = 3;
  record.loss = 2;
  record.grad_norm = 1;
  EXPECT_TRUE(CheckFinite(record, "loss", false).ok());
  record.grad_norm = kInf;
  EXPECT_NE(CheckFinite(record, "loss", false).error().what.find("step 3: the gradient norm is inf"), std::string::npos);
  record.loss = std::numeric_limits<double>::quiet_NaN();
  const Status status = CheckFinite(record, "cross_entropy_loss", false);
  EXPECT_EQ(status.error().code, Code::kFailed);
  EXPECT_EQ(status.error().what, "step 3: the loss \"cross_entropy_loss\" is NaN");
  EXPECT_NE(status.error().hint.find("--check-numerics"), std::string::npos);
}

}  // namespace
}  // namespace autospc::train
