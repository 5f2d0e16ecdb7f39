// Ops of LibTorch that nothing here knows by name, or that need care: gathered where they have no rule, with the
// gradients of one device.
#include <ATen/ops/randn.h>
#include <gtest/gtest.h>

#include <functional>

#include "passes/ir/printer.h"
#include "tests/compiler/graph_builder.h"
#include "tests/compiler/run_ranks.h"

namespace autospc::testing {
namespace {

constexpr int64_t kBatch = 2, kLength = 7, kWidth = 8;

// x is sharded by rows and w is computed from it by a weight: [kBatch, kLength, kWidth] both. The result is real, of
// any sizes.
struct OpCase {
  const char* name;
  std::function<ValueId(GraphBuilder&, ValueId x, ValueId w)> make;
};

ValueId V(GraphBuilder& b, const char* op, ValueId x) { return b.Op(op, {Arg::Value(x)}); }
ValueId VV(GraphBuilder& b, const char* op, ValueId x, ValueId w) { return b.Op(op, {Arg::Value(x), Arg::Value(w)}); }
ValueId Transposed(GraphBuilder& b, ValueId x) {
  return b.Op("aten.transpose.int", {Arg::Value(x), Arg::Int(1), Arg::Int(2)});
}
ValueId Complex(GraphBuilder& b, ValueId x) {
  return V(b, "aten.view_as_complex.default",
           b.Op("aten.view.default", {Arg::Value(x), Arg::Ints(std::vector<int64_t>{kBatch, kLength, kWidth / 2, 2})}));
}
ValueId Reduced(GraphBuilder& b, const char* op, ValueId x, ValueId w) {
  return VV(b, "aten.mul.Tensor", VV(b, op, x, w), w);  // the usual reduction: the mean
}

std::vector<OpCase> OpCases() {
  return {
      // A conjugate is a bit of a tensor to LibTorch: the backward pass of a product takes two.
      {"complex_product",
       [](auto& b, ValueId x, ValueId w) {
         return V(b, "aten.view_as_real.default", VV(b, "aten.mul.Tensor", Complex(b, x), Complex(b, w)));
       }},
      {"conjugate",
       [](auto& b, ValueId x, ValueId w) {
         return V(b, "aten.view_as_real.default",
                  VV(b, "aten.mul.Tensor", V(b, "aten._conj.default", Complex(b, x)), Complex(b, w)));
       }},
      {"imaginary_part_of_a_conjugate",
       [](auto& b, ValueId, ValueId w) {
         return V(b, "aten.imag.default", V(b, "aten._conj.default", Complex(b, w)));
       }},
      // Overloads with a given result that are not what they say.
      {"mse_loss", [](auto& b, ValueId x, ValueId w) { return Reduced(b, "aten.mse_loss.default", x, w); }},
      {"smooth_l1_loss", [](auto& b, ValueId x, ValueId w) { return Reduced(b, "aten.smooth_l1_loss.default", x, w); }},
      {"huber_loss", [](auto& b, ValueId x, ValueId w) { return Reduced(b, "aten.huber_loss.default", x, w); }},
      {"soft_margin_loss",
       [](auto& b, ValueId x, ValueId w) {
         return VV(b, "aten.mul.Tensor", VV(b, "aten.soft_margin_loss.default", w, V(b, "aten.sign.default", x)), w);
       }},
      {"binary_cross_entropy",
       [](auto& b, ValueId x, ValueId w) {
         return VV(b, "aten.mul.Tensor",
                   VV(b, "aten.binary_cross_entropy.default", V(b, "aten.sigmoid.default", w),
                      V(b, "aten.sigmoid.default", x)),
                   w);
       }},
      {"batch_norm_of_a_transpose",
       [](auto& b, ValueId, ValueId w) {
         return b.Op("aten.native_batch_norm.default",
                     {Arg::Value(Transposed(b, w)), Arg::None(), Arg::None(), Arg::None(), Arg::None(), Arg::Bool(true),
                      Arg::Float(0.1), Arg::Float(1e-5)});
       }},
      {"group_norm_without_weight",
       [](auto& b, ValueId, ValueId w) {
         return b.Op("aten.group_norm.default", {Arg::Value(Transposed(b, w)), Arg::Int(4)});
       }},
      // Without a shape rule of LibTorch's on meta tensors.
      {"abs", [](auto& b, ValueId x, ValueId w) { return VV(b, "aten.mul.Tensor", V(b, "aten.abs.default", w), x); }},
      {"logical_and",
       [](auto& b, ValueId x, ValueId w) {
         const ValueId both = VV(b, "aten.logical_and.default", b.Op("aten.gt.Scalar", {Arg::Value(x), Arg::Int(0)}),
                                 b.Op("aten.gt.Scalar", {Arg::Value(w), Arg::Int(0)}));
         return b.Op("aten.where.self", {Arg::Value(both), Arg::Value(w), Arg::Value(x)});
       }},
      {"hardswish", [](auto& b, ValueId, ValueId w) { return V(b, "aten.hardswish.default", w); }},
      {"log_sigmoid", [](auto& b, ValueId, ValueId w) { return V(b, "aten.log_sigmoid.default", w); }},
      {"glu",
       [](auto& b, ValueId, ValueId w) {
         return b.Op("aten.glu.default", {Arg::Value(w), Arg::Int(-1)});
       }},
      {"prod_over_rows",
       [](auto& b, ValueId, ValueId w) {
         return b.Op("aten.prod.dim_int", {Arg::Value(w), Arg::Int(1), Arg::Bool(false)});
       }},
      {"logcumsumexp_over_rows",
       [](auto& b, ValueId, ValueId w) {
         return b.Op("aten.logcumsumexp.default", {Arg::Value(w), Arg::Int(1)});
       }},
      {"max_of_all",
       [](auto& b, ValueId x, ValueId w) { return VV(b, "aten.mul.Tensor", V(b, "aten.max.default", w), x); }},
      // Kernels of LibTorch's that write to parts of what they return, or to gates in place.
      {"circular_padding",
       [](auto& b, ValueId, ValueId w) {
         return b.Op("aten._pad_circular.default",
                     {Arg::Value(Transposed(b, w)), Arg::Ints(std::vector<int64_t>{2, 1})});
       }},
      {"fourier_transform",
       [](auto& b, ValueId, ValueId w) { return V(b, "aten.abs.default", V(b, "aten.fft_rfft.default", w)); }},
      {"gru",
       [](auto& b, ValueId, ValueId w) {
         const ValueId start = b.Op("aten.zeros.default", {Arg::Ints(std::vector<int64_t>{1, kBatch, kWidth}),
                                                           Arg::Type(ir::DType::kFloat64)});
         std::vector<ValueId> weights;
         for (const char* name : {"input_weight", "hidden_weight"})
           weights.push_back(b.Parameter(name, at::randn({3 * kWidth, kWidth}, at::kDouble)));
         for (const char* name : {"input_bias", "hidden_bias"})
           weights.push_back(b.Parameter(name, at::randn({3 * kWidth}, at::kDouble)));
         return b.Op("aten.gru.input",
                     {Arg::Value(w), Arg::Value(start), Arg::Values(weights), Arg::Bool(true), Arg::Int(1),
                      Arg::Float(0), Arg::Bool(true), Arg::Bool(false), Arg::Bool(true)});
       }},
      {"conv1d_over_rows",
       [](auto& b, ValueId, ValueId w) {
         const ValueId kernel = b.Parameter("kernel", at::randn({kWidth, kWidth / 2, 3}, at::kDouble));
         return b.Op("aten.conv1d.default",
                     {Arg::Value(Transposed(b, w)), Arg::Value(kernel), Arg::None(), Arg::Ints(std::vector<int64_t>{1}),
                      Arg::Ints(std::vector<int64_t>{1}), Arg::Ints(std::vector<int64_t>{1}), Arg::Int(2)});
       }},
  };
}

class OpTest : public ::testing::TestWithParam<OpCase> {};
void PrintTo(const OpCase& c, std::ostream* out) { *out << c.name; }

TEST_P(OpTest, HasTheGradientsOfOneDevice) {
  at::manual_seed(5);
  GraphBuilder b;
  const ValueId x = b.Input("x", at::randn({kBatch, kLength, kWidth}, at::kDouble), 1);
  const ValueId weight = b.Parameter("weight", at::randn({kWidth, kWidth}, at::kDouble));
  const ValueId w = b.Op("aten.linear.default", {Arg::Value(x), Arg::Value(weight)});
  const ValueId y = GetParam().make(b, x, w);
  // Not the mean itself, so that every element has a derivative of its own.
  b.Loss(V(b, "aten.mean.default", V(b, "aten.sin.default", y)));
  const Tensors want = b.Gradients();
  for (const int ranks : {1, 3}) {
    SCOPED_TRACE(fmt::format("{} ranks", ranks));
    const auto compiled = CompileGraph(b.graph, Mesh(ranks), "ulysses");
    ASSERT_TRUE(compiled.ok()) << compiled.error().Format() << "\n" << ir::Print(b.graph);
    const auto got = RunRanks(compiled->program, b.parameters, b.inputs);
    ASSERT_TRUE(got.ok()) << got.error().Format();
    for (const RankResult& rank : *got) {
      EXPECT_NEAR(rank.loss, b.loss(), 1e-12);
      for (const auto& [name, g] : want) EXPECT_LT(Norm(rank.gradients.at(name) - g), 1e-11 * (1 + Norm(g))) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Ops, OpTest, ::testing::ValuesIn(OpCases()), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace autospc::testing
