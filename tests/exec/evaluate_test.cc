// The loss alone: what it needs is run, without dropout, and nothing that lasts is changed.
#include <ATen/ATen.h>

#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::OutputKind;
using program::StorageKind;

// w, and a buffer that the forward pass updates in place before the loss reads it; the backward pass and the update
// stand partly before the loss is final.
struct Trained {
  ProgramBuilder b;
  int x, w, seen, lr, loss;
  Trained() {
    const auto activation = [&](std::vector<int64_t> sizes) {
      return b.Tensor(at::kFloat, sizes, {}, StorageKind::Activation);
    };
    x = b.Tensor(at::kFloat, {64});
    w = b.Tensor(at::kFloat, {64}, {}, StorageKind::Parameter, "w");
    seen = b.Tensor(at::kFloat, {64}, {}, StorageKind::Buffer, "seen");
    lr = b.Tensor(at::kDouble, {}, {}, StorageKind::Input, "lr");
    const int y = activation({64}), dropped = activation({64}), g = activation({64}), z = activation({64});
    loss = activation({});
    b.Add("aten.mul.Tensor", {B::T(x), B::T(w)}, {y});
    b.Add("autosp.dropout", {B::T(y), B::F(0.5), B::I(0), B::I(-1), B::I(0), B::I(1), B::I(1)}, {dropped});
    b.Add("aten.add.Tensor", {B::T(seen), B::I(1), B::I(1)}, {seen});
    b.Add("aten.mul.Tensor", {B::T(x), B::F(2)}, {g});
    b.Add("aten.add.Tensor", {B::T(dropped), B::T(seen), B::I(1)}, {z});
    b.Add("autosp.sgd_", {B::T(w), B::None(), B::T(g), B::None(), B::T(lr), B::F(0)}, {});
    b.Add("aten.sum.default", {B::T(z), B::None()}, {loss});
    b.Output(OutputKind::Loss, "loss", loss, 6);
  }
};

TEST(EvaluateTest, GivesTheLossAndLeavesTheTrainingAlone) {
  Trained t;
  auto built = t.b.Build();
  ASSERT_TRUE(built.ok()) << built.error().Format();
  Executor& e = **built;
  const at::Tensor x = at::arange(1, 65, at::kFloat);
  e.tensor(t.lr).fill_(1);
  e.tensor(t.x).copy_(x);
  e.tensor(t.w).fill_(3);
  e.tensor(t.seen).fill_(10);
  const auto evaluate = [&] {
    double loss = -1;
    const Status status = e.Evaluate([&](const program::OutputT& out, const at::Tensor& value) -> Status {
      EXPECT_EQ(out.kind, OutputKind::Loss);
      loss = value.item<float>();
      return Ok();
    });
    EXPECT_TRUE(status.ok()) << status.error().Format();
    return loss;
  };
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(evaluate(), 3 * (64 * 65 / 2) + 64 * 11);  // nothing dropped; the buffer as this batch would leave it
    EXPECT_TRUE(at::equal(e.tensor(t.w), at::full({64}, 3.f)));
    EXPECT_TRUE(at::equal(e.tensor(t.seen), at::full({64}, 10.f)));
    EXPECT_EQ(e.steps(), 0);
  }
  // Steps go on as if there had been none: the same masks as those of a run without evaluations.
  auto other = t.b.Build();
  ASSERT_TRUE(other.ok());
  for (int tensor : {t.lr, t.x, t.w, t.seen}) (*other)->tensor(tensor).copy_(e.tensor(tensor));
  const auto step = [&](Executor& executor) {
    double loss = -1;
    EXPECT_TRUE(executor
                    .Step([&](const program::OutputT&, const at::Tensor& value) -> Status {
                      loss = value.item<float>();
                      return Ok();
                    })
                    .ok());
    return loss;
  };
  for (int i = 0; i < 3; ++i) {
    const double whole = evaluate(), loss = step(e);
    EXPECT_EQ(loss, step(**other));
    EXPECT_NE(loss, whole) << "nothing was dropped";
    EXPECT_EQ(e.steps(), i + 1);
  }
  EXPECT_TRUE(at::equal(e.tensor(t.w), 3 - 6 * x));  // three steps, each of 2 x
  EXPECT_TRUE(at::equal(e.tensor(t.seen), at::full({64}, 13.f)));
}

TEST(EvaluateTest, AProgramWithoutLossIsRefused) {
  ProgramBuilder b;
  auto e = b.Build();
  ASSERT_TRUE(e.ok());
  const Status status = (*e)->Evaluate({});
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::kBadInput);
}

}  // namespace
}  // namespace autospc::exec
