// The step's kernels against torch.optim's arithmetic, written with LibTorch's ops.
#include <ATen/ATen.h>

#include <cmath>

#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::StorageKind;

struct StepCase {
  at::ScalarType parameter, gradient, state;
  bool master, clip, transposed;
};
class AdamWTest : public testing::TestWithParam<StepCase> {};

INSTANTIATE_TEST_SUITE_P(Types, AdamWTest,
                         testing::Values(StepCase{at::kFloat, at::kFloat, at::kFloat, false, false, false},
                                         StepCase{at::kFloat, at::kFloat, at::kFloat, false, true, true},
                                         StepCase{at::kDouble, at::kDouble, at::kDouble, false, true, false},
                                         StepCase{at::kBFloat16, at::kBFloat16, at::kFloat, true, true, true}));

TEST_P(AdamWTest, ThreeStepsAsTorchOptim) {
  const StepCase& c = GetParam();
  at::manual_seed(1);
  constexpr double kLr = 1e-2, kBeta1 = 0.9, kBeta2 = 0.999, kEps = 1e-8, kDecay = 0.01;
  const at::Tensor start = at::randn({70, 130}).to(c.parameter);
  ProgramBuilder b;
  const int p = b.Like(start), master = c.master ? b.Tensor(at::kFloat, {70, 130}) : -1;
  const int g = b.Tensor(c.gradient, {70, 130}, c.transposed ? std::vector<int64_t>{1, 70} : std::vector<int64_t>{});
  const int m = b.Tensor(c.state, {70, 130}, {}, StorageKind::Optimizer, "m"),
            v = b.Tensor(c.state, {70, 130}, {}, StorageKind::Optimizer, "v");
  const int clip = b.Tensor(at::kDouble, {}), lr = b.Tensor(at::kDouble, {}), step = b.Tensor(at::kLong, {});
  b.Add("autosp.adamw_",
        {B::T(p), c.master ? B::T(master) : B::None(), B::T(g), B::T(m), B::T(v), c.clip ? B::T(clip) : B::None(),
         B::T(lr), B::T(step), B::F(kBeta1), B::F(kBeta2), B::F(kEps), B::F(kDecay)},
        {});
  auto made = b.Build();
  ASSERT_TRUE(made.ok()) << made.error().Format();
  Executor& e = **made;
  e.tensor(p).copy_(start);
  if (c.master) e.tensor(master).copy_(start);
  e.tensor(lr).fill_(kLr);
  e.tensor(clip).fill_(0.37);
  const auto compute = c.parameter == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor w = start.to(compute), avg = at::zeros_like(w), square = at::zeros_like(w);
  for (int t = 1; t <= 3; ++t) {
    const at::Tensor grad = at::randn({70, 130}).to(c.gradient);
    e.tensor(g).copy_(grad);
    e.tensor(step).fill_(t);
    const Status status = e.Step({});
    ASSERT_TRUE(status.ok()) << status.error().Format();
    at::Tensor d = grad.to(compute);
    if (c.clip) d = d * 0.37;
    w.mul_(1 - kLr * kDecay);
    avg.lerp_(d, 1 - kBeta1);
    square.mul_(kBeta2).addcmul_(d, d, 1 - kBeta2);
    const at::Tensor denominator = (square.sqrt() / std::sqrt(1 - std::pow(kBeta2, t))).add_(kEps);
    w.addcdiv_(avg, denominator, -kLr / (1 - std::pow(kBeta1, t)));
    // Few roundings may differ: a compiler may fuse a product and a sum where LibTorch's vectors don't.
    const double tight = compute == at::kDouble ? 1e-14 : 5e-7;
    EXPECT_TRUE(at::allclose(e.tensor(c.master ? master : p).to(compute), w, tight, tight)) << "step " << t;
    EXPECT_TRUE(at::allclose(e.tensor(m), avg, tight, tight));
    EXPECT_TRUE(at::allclose(e.tensor(v), square, tight, tight));
    if (c.master) EXPECT_TRUE(at::equal(e.tensor(p), e.tensor(master).to(c.parameter)));
    EXPECT_EQ(e.OutsideBytes(), 0);
  }
}

TEST(StepKernelTest, Sgd) {
  ProgramBuilder b;
  const at::Tensor start = at::randn({33}), grad = at::randn({33});
  const int p = b.Like(start), g = b.Like(grad), lr = b.Tensor(at::kDouble, {});
  b.Add("autosp.sgd_", {B::T(p), B::None(), B::T(g), B::None(), B::T(lr), B::F(0.1)}, {});
  auto e = b.Build();
  ASSERT_TRUE(e.ok());
  (*e)->tensor(p).copy_(start);
  (*e)->tensor(g).copy_(grad);
  (*e)->tensor(lr).fill_(0.5);
  ASSERT_TRUE((*e)->Step({}).ok());
  EXPECT_TRUE(at::allclose((*e)->tensor(p), start - 0.5 * (grad + 0.1 * start), 1e-6, 1e-7));
}

TEST(StepKernelTest, SumsTakeNarrowAddendsInAnyLayout) {
  for (const auto type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const bool alike : {true, false}) {
      ProgramBuilder b;
      const at::Tensor start = at::randn({30, 7}), x = at::randn({30, 7}).to(type);
      const int sum = b.Tensor(at::kFloat, {30, 7}, {1, 30}), addend = b.Tensor(type, {30, 7}, alike ? std::vector<int64_t>{1, 30} : std::vector<int64_t>{7, 1});
      b.Add("autosp.accumulate_", {B::T(sum), B::T(addend)}, {});
      auto e = b.Build();
      ASSERT_TRUE(e.ok()) << e.error().Format();
      (*e)->tensor(sum).copy_(start);
      (*e)->tensor(addend).copy_(x);
      ASSERT_TRUE((*e)->Step({}).ok());
      EXPECT_TRUE(at::equal((*e)->tensor(sum), start + x.to(at::kFloat))) << type;
    }
  }
}

TEST(StepKernelTest, AnOptimiserNeedsRowMajorParameters) {
  ProgramBuilder b;
  const int p = b.Tensor(at::kFloat, {4, 6}, {1, 4}), g = b.Tensor(at::kFloat, {4, 6}), lr = b.Tensor(at::kDouble, {});
  b.Add("autosp.sgd_", {B::T(p), B::None(), B::T(g), B::None(), B::T(lr), B::F(0)}, {});
  const auto e = b.Build();
  ASSERT_FALSE(e.ok());
  EXPECT_EQ(e.error().code, Code::kBadInput);
  EXPECT_NE(e.error().what.find("row-major"), std::string::npos);
}

TEST(StepKernelTest, NormAndClip) {
  ProgramBuilder b;
  const at::Tensor x = at::randn({300, 70}), y = at::randn({5}).to(at::kBFloat16);
  const int gx = b.Tensor(at::kFloat, {300, 70}, {1, 300}), gy = b.Like(y);
  const int norm = b.Tensor(at::kDouble, {}, {}, StorageKind::Activation),
            clip = b.Tensor(at::kDouble, {}, {}, StorageKind::Activation);
  b.Add("autosp.grad_norm", {B::Ts({gx, gy})}, {norm});
  b.Add("autosp.clip_coefficient", {B::T(norm), B::F(2.0)}, {clip});
  auto e = b.Build();
  ASSERT_TRUE(e.ok());
  (*e)->tensor(gx).copy_(x);
  (*e)->tensor(gy).copy_(y);
  ASSERT_TRUE((*e)->Step({}).ok());
  const double expected =
      std::sqrt(x.to(at::kDouble).square().sum().item<double>() + y.to(at::kDouble).square().sum().item<double>());
  const double got = (*e)->tensor(norm).item<double>();
  EXPECT_NEAR(got, expected, 1e-12 * expected);
  EXPECT_NEAR((*e)->tensor(clip).item<double>(), 2.0 / (got + 1e-6), 1e-15);
  (*e)->tensor(gx).fill_(NAN);
  ASSERT_TRUE((*e)->Step({}).ok());
  EXPECT_TRUE(std::isnan((*e)->tensor(clip).item<double>()));
}

}  // namespace
}  // namespace autospc::exec
