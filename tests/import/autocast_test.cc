// The cast lists against LibTorch itself: which ops its dispatcher casts, and to what.
#include "compiler/import/autocast.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <map>

namespace autospc::import {
namespace {

std::string IrName(const c10::OperatorName& name) {
  return name.name.substr(6).insert(0, "aten.") + "." + (name.overload_name.empty() ? "default" : name.overload_name);
}

// Every aten op that has a kernel of its own at the autocast key is on a list, and no other.
void ExpectSameOps(const std::string& device, c10::DispatchKey key) {
  std::vector<std::string> missing, extra;
  for (const c10::OperatorName& name : c10::Dispatcher::singleton().getAllOpNames()) {
    if (!name.name.starts_with("aten::")) continue;
    const auto op = c10::Dispatcher::singleton().findOp(name);
    if (!op || !op->hasSchema()) continue;
    const std::string ir = IrName(name);
    const bool listed = AutocastPolicy(ir, device) != CastPolicy::kNone;
    if (op->hasKernelForDispatchKey(key) && !listed) missing.push_back(ir);
    if (!op->hasKernelForDispatchKey(key) && listed) extra.push_back(ir);
  }
  EXPECT_EQ(missing, std::vector<std::string>()) << device;
  EXPECT_EQ(extra, std::vector<std::string>()) << device;
}

TEST(Autocast, ListsHoldTheDispatchersOps) {
  ExpectSameOps("cpu", c10::DispatchKey::AutocastCPU);
  ExpectSameOps("cuda", c10::DispatchKey::AutocastCUDA);
}

// The policy's result dtype against LibTorch's own, run under autocast on CPU.
TEST(Autocast, PoliciesAreLibTorchs) {
  const bool was = at::autocast::is_autocast_enabled(at::kCPU);
  at::autocast::set_autocast_enabled(at::kCPU, true);
  at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  const at::Tensor x = at::rand({2, 4, 4}), h = x.to(at::kBFloat16), ids = at::zeros({2}, at::kLong);
  const auto expect = [](const char* op, const at::Tensor& result) {
    const auto policy = AutocastPolicy(op, "cpu");
    EXPECT_EQ(result.scalar_type(), policy == CastPolicy::kLower ? at::kBFloat16 : at::kFloat) << op;
    EXPECT_NE(policy, CastPolicy::kNone) << op;
  };
  expect("aten.linear.default", at::linear(x, x[0]));
  expect("aten.matmul.default", at::matmul(x, x));
  expect("aten.scaled_dot_product_attention.default", at::scaled_dot_product_attention(x, x, x));
  expect("aten.mse_loss.default", at::mse_loss(h, h));
  expect("aten.cross_entropy_loss.default", at::cross_entropy_loss(h[0].slice(0, 0, 2), ids));
  expect("aten.cat.default", at::cat({x, h}));
  // On CPU these stay as they are given.
  EXPECT_EQ(at::softmax(h, -1).scalar_type(), at::kBFloat16);
  EXPECT_EQ(AutocastPolicy("aten.softmax.int", "cpu"), CastPolicy::kNone);
  EXPECT_EQ(at::layer_norm(x, {4}).scalar_type(), at::kFloat);
  EXPECT_EQ(AutocastPolicy("aten.layer_norm.default", "cpu"), CastPolicy::kNone);
  at::autocast::clear_cache();
  at::autocast::set_autocast_enabled(at::kCPU, was);
}

// Values 0 and 1 are float32, 2 and 3 bfloat16, 4 int64.
struct Fake {
  std::map<std::pair<ir::ValueId, ir::DType>, int> casts;
  Caster caster{[](ir::ValueId v) { return v < 4 || v >= 100; },
                [](ir::ValueId v) {
                  return v == 4 ? ir::DType::kInt64 : v == 2 || v == 3 ? ir::DType::kBFloat16 : ir::DType::kFloat32;
                },
                [this](ir::ValueId v, ir::DType t) {
                  ++casts[{v, t}];
                  return v + 100;
                }};
};

TEST(Autocast, Policies) {
  using ir::Arg;
  using ir::DType;
  const auto apply = [](const char* op, const char* device, DType result, std::vector<Arg> args) {
    Fake fake;
    const Status status = ApplyAutocast(*FindOp(op), device, DType::kBFloat16, result, fake.caster, &args);
    EXPECT_TRUE(status.ok());
    return std::pair(std::move(args), fake.casts);
  };
  // Lists are cast item by item; promote goes to the widest.
  auto [cat, cat_casts] = apply("aten.cat.default", "cpu", DType::kFloat32, {Arg::Values({0, 2}), Arg::Int(0)});
  EXPECT_EQ(cat[0].values, (std::vector<ir::ValueId>{0, 102}));
  auto [low, low_casts] = apply("aten.cat.default", "cpu", DType::kBFloat16, {Arg::Values({2, 3}), Arg::Int(0)});
  EXPECT_TRUE(low_casts.empty());
  // A dtype that is not given becomes float32.
  auto [softmax, softmax_casts] =
      apply("aten.softmax.int", "cuda", DType::kFloat32, {Arg::Value(2), Arg::Int(-1), Arg::None()});
  EXPECT_EQ(softmax[2], Arg::Type(DType::kFloat32));
  auto [given, given_casts] =
      apply("aten.softmax.int", "cuda", DType::kBFloat16, {Arg::Value(2), Arg::Int(-1), Arg::Type(DType::kBFloat16)});
  EXPECT_EQ(given[2], Arg::Type(DType::kBFloat16));
  // On CUDA cross entropy is a composite of ops on the lists: its recorded result says in which dtype it ran.
  auto [ce, ce_casts] = apply("aten.cross_entropy_loss.default", "cuda", DType::kFloat32,
                              {Arg::Value(2), Arg::Value(4), Arg::None(), Arg::Int(1), Arg::Int(-100), Arg::Float(0)});
  EXPECT_EQ(ce[0].value, 102);
  EXPECT_EQ(ce[1].value, 4);
  // An op that says its dtype, and one that has nothing to cast.
  auto [to, to_casts] =
      apply("aten.to.dtype", "cuda", DType::kFloat32,
            {Arg::Value(2), Arg::Type(DType::kFloat32), Arg::Bool(false), Arg::Bool(false), Arg::None()});
  EXPECT_TRUE(to_casts.empty());
  auto [relu, relu_casts] = apply("aten.relu.default", "cuda", DType::kBFloat16, {Arg::Value(2)});
  EXPECT_TRUE(relu_casts.empty());
  Fake fake;
  std::vector<Arg> bce = {Arg::Value(2), Arg::Value(2), Arg::None(), Arg::Int(1)};
  const Status banned = ApplyAutocast(*FindOp("aten.binary_cross_entropy.default"), "cuda", DType::kFloat16,
                                      DType::kFloat16, fake.caster, &bce);
  ASSERT_FALSE(banned.ok());
  EXPECT_EQ(banned.error().code, Code::kUnsupported);
}

}  // namespace
}  // namespace autospc::import
