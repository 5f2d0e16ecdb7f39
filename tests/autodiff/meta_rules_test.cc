// Each shape rule of compiler/autodiff/meta_rules.cc, and what meta_fallback.cc says of ops without one, against the CPU
// kernel: sizes, strides and dtype.
#include <functional>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/ops/abs.h>
#include <ATen/ops/angle.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/conv1d.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/conv_transpose1d.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/count_nonzero.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/flip.h>
#include <ATen/ops/glu_backward.h>
#include <ATen/ops/hardswish.h>
#include <ATen/ops/hardtanh.h>
#include <ATen/ops/hardtanh_backward.h>
#include <ATen/ops/huber_loss.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/isnan.h>
#include <ATen/ops/log_sigmoid_forward.h>
#include <ATen/ops/logical_and.h>
#include <ATen/ops/logical_not.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/masked_select.h>
#include <ATen/ops/max.h>
#include <ATen/ops/mse_loss_backward.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/native_batch_norm.h>
#include <ATen/ops/native_group_norm.h>
#include <ATen/ops/native_layer_norm.h>
#include <ATen/ops/native_layer_norm_backward.h>
#include <ATen/ops/nll_loss2d_backward.h>
#include <ATen/ops/nll_loss2d_forward.h>
#include <ATen/ops/nonzero.h>
#include <ATen/ops/pixel_shuffle.h>
#include <ATen/ops/prod.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/roll.h>
#include <ATen/ops/std.h>
#include <ATen/ops/take.h>
#include <ATen/ops/unfold_backward.h>
#include <ATen/ops/var.h>
#include <ATen/ops/var_mean.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include "compiler/autodiff/ops.h"

namespace autospc::autodiff {
namespace {

using at::Tensor;
// Makes a tensor on the device under test.
using Make = std::function<Tensor(std::vector<int64_t> sizes, c10::ScalarType dtype)>;

struct Case {
  const char* name;
  std::function<std::vector<Tensor>(const Make& make)> run;
};

std::vector<Tensor> List(const std::tuple<Tensor, Tensor>& t) { return {std::get<0>(t), std::get<1>(t)}; }
std::vector<Tensor> List(const std::tuple<Tensor, Tensor, Tensor>& t) { return {std::get<0>(t), std::get<1>(t), std::get<2>(t)}; }

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"embedding", [](const Make& m) { return std::vector{at::embedding(m({7, 3}, at::kFloat), m({2, 5}, at::kLong))}; }},
      {"embedding of a scalar index", [](const Make& m) { return std::vector{at::embedding(m({7, 3}, at::kFloat), m({}, at::kLong))}; }},
      {"embedding_dense_backward",
       [](const Make& m) {
         return std::vector{at::embedding_dense_backward(m({2, 5, 3}, at::kFloat), m({2, 5}, at::kLong), 7, -1, false)};
       }},
      {"where", [](const Make& m) { return std::vector{at::where(m({4, 1}, at::kBool), m({4, 3}, at::kFloat), m({3}, at::kFloat))}; }},
      {"where promotes",
       [](const Make& m) { return std::vector{at::where(m({4, 3}, at::kBool), m({4, 3}, at::kLong), m({3}, at::kDouble))}; }},
      {"where keeps a permuted layout",
       [](const Make& m) {
         const Tensor x = m({3, 4}, at::kFloat).t();
         return std::vector{at::where(m({3, 4}, at::kBool).t(), x, x)};
       }},
      {"relu", [](const Make& m) { return std::vector{at::relu(m({3, 4}, at::kFloat).t())}; }},
      {"index_select", [](const Make& m) { return std::vector{at::index_select(m({3, 4, 5}, at::kFloat), 1, m({2}, at::kLong))}; }},
      {"native_layer_norm",
       [](const Make& m) {
         return List(at::native_layer_norm(m({2, 5, 3}, at::kFloat), {3}, m({3}, at::kFloat), m({3}, at::kFloat), 1e-5));
       }},
      {"native_layer_norm over two dims, no weight",
       [](const Make& m) { return List(at::native_layer_norm(m({2, 5, 3}, at::kDouble), {5, 3}, {}, {}, 1e-5)); }},
      {"native_layer_norm, 16 bits with float32 weights",
       [](const Make& m) {
         return List(at::native_layer_norm(m({2, 5, 3}, at::kBFloat16), {3}, m({3}, at::kFloat), m({3}, at::kFloat), 1e-5));
       }},
      {"native_layer_norm_backward",
       [](const Make& m) {
         const Tensor x = m({2, 5, 3}, at::kFloat), s = m({2, 5, 1}, at::kFloat), w = m({3}, at::kFloat);
         return List(at::native_layer_norm_backward(x, x, {3}, s, s, w, w, {true, true, true}));
       }},
      {"flip", [](const Make& m) { return std::vector{at::flip(m({3, 4}, at::kFloat), {0})}; }},
      {"roll", [](const Make& m) { return std::vector{at::roll(m({3, 4}, at::kFloat), {1}, {0})}; }},
      {"var_mean", [](const Make& m) { return List(at::var_mean(m({3, 4, 5}, at::kFloat), at::OptionalIntArrayRef({1}), 1, true)); }},
      {"var", [](const Make& m) { return std::vector{at::var(m({3, 4, 5}, at::kFloat), at::OptionalIntArrayRef({0, 2}), 0, false)}; }},
      {"std over all", [](const Make& m) { return std::vector{at::std(m({3, 4}, at::kFloat), at::OptionalIntArrayRef(), 1, false)}; }},
      {"logsumexp", [](const Make& m) { return std::vector{at::logsumexp(m({3, 4}, at::kFloat), {-1}, true)}; }},
      {"mse_loss_backward",
       [](const Make& m) { return std::vector{at::mse_loss_backward(m({}, at::kFloat), m({3, 4}, at::kFloat), m({3, 4}, at::kFloat), 1)}; }},
      {"nll_loss2d_forward",
       [](const Make& m) { return List(at::nll_loss2d_forward(m({2, 3, 4, 5}, at::kFloat), m({2, 4, 5}, at::kLong), {}, 0, -100)); }},
      {"nll_loss2d_forward, mean",
       [](const Make& m) { return List(at::nll_loss2d_forward(m({2, 3, 4, 5}, at::kFloat), m({2, 4, 5}, at::kLong), {}, 1, -100)); }},
      {"nll_loss2d_backward",
       [](const Make& m) {
         return std::vector{at::nll_loss2d_backward(m({}, at::kFloat), m({2, 3, 4, 5}, at::kFloat), m({2, 4, 5}, at::kLong), {}, 1,
                                                    -100, m({}, at::kFloat))};
       }},
      {"conv1d", [](const Make& m) { return std::vector{at::conv1d(m({2, 4, 9}, at::kFloat), m({6, 2, 3}, at::kFloat), m({6}, at::kFloat), 2, 1, 1, 2)}; }},
      {"conv2d, dilated",
       [](const Make& m) { return std::vector{at::conv2d(m({2, 4, 9, 8}, at::kFloat), m({6, 4, 3, 2}, at::kFloat), {}, {1, 2}, {1, 0}, {2, 1})}; }},
      {"conv_transpose1d", [](const Make& m) { return std::vector{at::conv_transpose1d(m({2, 4, 9}, at::kFloat), m({4, 3, 3}, at::kFloat), {}, 2, 1, 1)}; }},
      {"convolution_backward",
       [](const Make& m) {
         return List(at::convolution_backward(m({2, 6, 9, 8}, at::kFloat), m({2, 4, 9, 8}, at::kFloat), m({6, 4, 3, 3}, at::kFloat),
                                              at::OptionalIntArrayRef({6}), {1, 1}, {1, 1}, {1, 1}, false, {0, 0}, 1, {true, true, true}));
       }},
      // Ops without a rule: their CPU kernels say it (meta_fallback.cc).
      {"abs", [](const Make& m) { return std::vector{at::abs(m({3, 4}, at::kFloat))}; }},
      {"abs of integers, transposed", [](const Make& m) { return std::vector{at::abs(m({3, 4}, at::kLong).t())}; }},
      {"abs of nothing", [](const Make& m) { return std::vector{at::abs(m({0, 4}, at::kFloat)), at::abs(m({}, at::kFloat))}; }},
      {"abs in place", [](const Make& m) { return std::vector{m({3, 4}, at::kFloat).abs_()}; }},
      {"logical_and broadcast", [](const Make& m) { return std::vector{at::logical_and(m({3, 1}, at::kFloat), m({4}, at::kLong))}; }},
      {"logical_not", [](const Make& m) { return std::vector{at::logical_not(m({3, 4}, at::kFloat))}; }},
      {"isnan", [](const Make& m) { return std::vector{at::isnan(m({3, 4}, at::kFloat))}; }},
      {"nan_to_num", [](const Make& m) { return std::vector{at::nan_to_num(m({3, 4}, at::kBFloat16))}; }},
      {"angle of a real", [](const Make& m) { return std::vector{at::angle(m({3, 4}, at::kFloat))}; }},
      {"hardtanh", [](const Make& m) { return std::vector{at::hardtanh(m({2, 3, 4}, at::kFloat))}; }},
      {"hardtanh_backward", [](const Make& m) { return std::vector{at::hardtanh_backward(m({3, 4}, at::kFloat), m({3, 4}, at::kFloat), -1, 1)}; }},
      {"hardswish", [](const Make& m) { return std::vector{at::hardswish(m({3, 4}, at::kFloat))}; }},
      {"log_sigmoid_forward", [](const Make& m) { return List(at::log_sigmoid_forward(m({3, 4}, at::kFloat))); }},
      {"max of all", [](const Make& m) { return std::vector{at::max(m({3, 4}, at::kFloat))}; }},
      {"prod", [](const Make& m) { return std::vector{at::prod(m({3, 4}, at::kInt))}; }},
      {"count_nonzero", [](const Make& m) { return std::vector{at::count_nonzero(m({3, 4}, at::kFloat), at::IntArrayRef({1}))}; }},
      {"native_group_norm",
       [](const Make& m) { return List(at::native_group_norm(m({2, 4, 5}, at::kFloat), m({4}, at::kFloat), m({4}, at::kFloat), 2, 4, 5, 2, 1e-5)); }},
      {"native_batch_norm, training",
       [](const Make& m) { return List(at::native_batch_norm(m({2, 4, 5}, at::kFloat), m({4}, at::kFloat), m({4}, at::kFloat), {}, {}, true, 0.1, 1e-5)); }},
      {"huber_loss", [](const Make& m) { return std::vector{at::huber_loss(m({3, 4}, at::kFloat), m({3, 4}, at::kFloat))}; }},
      {"glu_backward", [](const Make& m) { return std::vector{at::glu_backward(m({3, 2}, at::kFloat), m({3, 4}, at::kFloat), 1)}; }},
      {"pixel_shuffle", [](const Make& m) { return std::vector{at::pixel_shuffle(m({1, 4, 2, 3}, at::kFloat), 2)}; }},
      {"take", [](const Make& m) { return std::vector{at::take(m({3, 4}, at::kFloat), m({5}, at::kLong))}; }},
      {"unfold_backward", [](const Make& m) { return std::vector{at::unfold_backward(m({3, 2}, at::kFloat), {6}, 0, 2, 2)}; }},
  };
  return cases;
}

class MetaRules : public ::testing::TestWithParam<size_t> {};

TEST_P(MetaRules, EqualTheCpuKernel) {
  RegisterOps();
  const Case& c = Cases()[GetParam()];
  const auto on = [](c10::Device device) {
    return [device](std::vector<int64_t> sizes, c10::ScalarType dtype) { return at::zeros(sizes, at::TensorOptions().dtype(dtype).device(device)); };
  };
  const std::vector<Tensor> want = c.run(on(c10::kCPU)), got = c.run(on(c10::kMeta));
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_EQ(want[i].sizes().vec(), got[i].sizes().vec()) << c.name << ", result " << i;
    EXPECT_EQ(want[i].scalar_type(), got[i].scalar_type()) << c.name << ", result " << i;
    EXPECT_EQ(want[i].strides().vec(), got[i].strides().vec()) << c.name << ", result " << i;
    EXPECT_TRUE(got[i].is_meta());
  }
}

// A shape that depends on what is in the tensor is not made up.
TEST(MetaFallbacks, KeepOffData) {
  RegisterOps();
  const Tensor x = at::zeros({3, 4}, at::TensorOptions().device(c10::kMeta));
  EXPECT_THROW(at::nonzero(x), c10::Error);
  EXPECT_THROW(at::masked_select(x, x.to(at::kBool)), c10::Error);
  EXPECT_THROW((void)x.sum().item(), c10::Error);
}

// Pointwise ops of any size cost nothing; others are refused beyond what a machine holds.
TEST(MetaFallbacks, SizesBeyondAnyMemory) {
  RegisterOps();
  const Tensor x = at::empty({1 << 20, 1 << 20}, at::TensorOptions().device(c10::kMeta));
  EXPECT_EQ(at::abs(x).sizes(), x.sizes());
  EXPECT_EQ(at::logical_and(x, x).numel(), x.numel());
  EXPECT_THROW(at::prod(x), c10::NotImplementedError);
}

INSTANTIATE_TEST_SUITE_P(All, MetaRules, ::testing::Range<size_t>(0, Cases().size()), [](const auto& info) {
  std::string name = Cases()[info.param].name;
  for (char& ch : name) ch = std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
  return name;
});

}  // namespace
}  // namespace autospc::autodiff
