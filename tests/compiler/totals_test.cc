// Steps of three micro-batches against LibTorch's autograd over the one batch that holds them, in float64, for each way
// in which a loss may be made of its tokens. The ranks are threads.
#include <gtest/gtest.h>

#include <ATen/ops/arange.h>
#include <ATen/ops/cos.h>
#include <ATen/ops/full.h>
#include <fmt/format.h>

#include <functional>

#include "runtime/package/micro_batches.h"
#include "tests/compiler/graph_builder.h"
#include "tests/compiler/run_ranks.h"

namespace autospc::testing::totals {
namespace {

constexpr int kMicroBatches = 3;
constexpr int64_t kRows = 2, kLength = 5, kWidth = 4, kClasses = 6;

Arg V(ValueId v) { return Arg::Value(v); }

// Numbers of no pattern that a sum would hide.
at::Tensor Numbers(const std::vector<int64_t>& sizes, double from) {
  int64_t n = 1;
  for (const int64_t size : sizes) n *= size;
  return at::cos(at::arange(n, at::kDouble) * 1.7 + from).reshape(sizes);
}

// The batch of all micro-batches: [6, 5] tokens. The first has few labels, the second none.
Tensors WholeBatch() {
  const int64_t rows = kMicroBatches * kRows;
  at::Tensor labels = at::arange(rows * kLength, at::kLong).mul(7).remainder(kClasses).reshape({rows, kLength});
  at::Tensor mask = at::full({rows, kLength}, 1.0, at::kDouble);
  for (int64_t row = 0; row < 2 * kRows; ++row) {
    for (int64_t i = 0; i < kLength; ++i) {
      if (row == 0 && i < 2) continue;
      labels[row][i] = -100;
      mask[row][i] = 0;
    }
  }
  return {{"x", Numbers({rows, kLength, kWidth}, 1)}, {"labels", labels}, {"mask", mask}};
}

struct Parts {
  GraphBuilder& b;
  ValueId logits, labels, mask, hidden, temperature;  // [tokens, classes], [tokens], [tokens], a parameter [4, 4], one []

  ValueId Op(const std::string& op, std::vector<Arg> args) const { return b.Op("aten." + op, std::move(args)); }
  ValueId Entropy(int reduction) const {
    return Op("cross_entropy_loss.default", {V(logits), V(labels), Arg::None(), Arg::Int(reduction), Arg::Int(-100), Arg::Float(0.1)});
  }
  ValueId Squares() const { return Op("mul.Tensor", {V(logits), V(logits)}); }  // [tokens, classes]
  ValueId Masked() const { return Op("mul.Tensor", {V(Op("logsumexp.default", {V(logits), Arg::Ints(std::vector<int64_t>{1})})), V(mask)}); }
  ValueId Sum(ValueId v) const { return Op("sum.default", {V(v)}); }
  ValueId Mean(ValueId v) const { return Op("mean.default", {V(v)}); }
  ValueId Times(ValueId v, double factor) const { return Op("mul.Tensor", {V(v), V(b.Op("aten.scalar_tensor.default", {Arg::Float(factor), Arg::Type(ir::DType::kFloat64)}))}); }
  ValueId Over(ValueId a, ValueId b_) const { return Op("div.Tensor", {V(a), V(b_)}); }
  ValueId Plus(ValueId a, ValueId b_) const { return Op("add.Tensor", {V(a), V(b_)}); }
};

using Loss = std::function<ValueId(const Parts&)>;

GraphBuilder Model(const Tensors& batch, const Loss& loss) {
  GraphBuilder b;
  const int64_t tokens = batch.at("x").size(0) * kLength;
  const ValueId x = b.Input("x", batch.at("x"), 1), labels = b.Input("labels", batch.at("labels"), 1), mask = b.Input("mask", batch.at("mask"), 1);
  const ValueId in = b.Parameter("in", Numbers({kWidth, kWidth}, 2)), out = b.Parameter("out", Numbers({kClasses, kWidth}, 3));
  const ValueId bias = b.Parameter("bias", Numbers({kClasses}, 4)), temperature = b.Parameter("temperature", at::full({}, 0.3, at::kDouble));
  ValueId h = b.Op("aten.tanh.default", {V(b.Op("aten.linear.default", {V(x), V(in)}))});
  h = b.Op("aten.linear.default", {V(h), V(out), V(bias)});
  const auto flat = [&](ValueId v, std::vector<int64_t> sizes) { return b.Op("aten.reshape.default", {V(v), Arg::Ints(sizes)}); };
  const Parts parts{b, flat(h, {tokens, kClasses}), flat(labels, {tokens}), flat(mask, {tokens}), in, temperature};
  b.Loss(loss(parts));
  return b;
}

struct Case {
  std::string name;
  Loss loss;
};

std::vector<Case> Losses() {
  const auto masked_mean = [](const Parts& p) {
    return p.Over(p.Sum(p.Masked()), p.Op("clamp.default", {V(p.Sum(p.mask)), Arg::Float(1)}));
  };
  return {
      {"MeanCrossEntropy", [](const Parts& p) { return p.Entropy(1); }},
      {"MaskedMean", masked_mean},
      {"HalfOfIt", [=](const Parts& p) { return p.Times(masked_mean(p), 0.5); }},
      {"WeightedSums", [](const Parts& p) {
         return p.Over(p.Plus(p.Entropy(2), p.Times(p.Sum(p.Masked()), 0.1)), p.Sum(p.mask));
       }},
      {"Mean", [](const Parts& p) { return p.Mean(p.Squares()); }},
      {"Means", [](const Parts& p) { return p.Plus(p.Mean(p.Squares()), p.Times(p.Mean(p.logits), 0.3)); }},
      {"RootMeanSquare", [](const Parts& p) { return p.Op("sqrt.default", {V(p.Mean(p.Squares()))}); }},
      {"Guarded", [=](const Parts& p) {
         const ValueId any = p.Op("gt.Scalar", {V(p.Sum(p.mask)), Arg::Int(0)}), none = p.Times(p.Sum(p.mask), 0);
         return p.Op("where.self", {V(any), V(masked_mean(p)), V(none)});
       }},
      // Penalties on parameters that the tokens' losses depend on too, and on one of its own.
      {"Penalised", [](const Parts& p) {
         const ValueId penalty = p.Sum(p.Op("mul.Tensor", {V(p.hidden), V(p.hidden)}));
         return p.Plus(p.Entropy(1), p.Plus(p.Times(penalty, 0.01), p.Op("mul.Tensor", {V(p.temperature), V(p.temperature)})));
       }},
      {"Tempered", [](const Parts& p) { return p.Op("mul.Tensor", {V(p.Entropy(1)), V(p.Op("exp.default", {V(p.temperature)}))}); }},
  };
}

class AccumulateGraphTest : public ::testing::TestWithParam<Case> {};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

TEST_P(AccumulateGraphTest, LossAndGradientsAreThoseOfTheOneBatch) {
  const Tensors whole = WholeBatch();
  std::vector<Tensors> batches(kMicroBatches);
  for (int m = 0; m < kMicroBatches; ++m) {
    for (const auto& [name, t] : whole) batches[m][name] = t.narrow(0, m * kRows, kRows).contiguous();
  }
  const GraphBuilder reference = Model(whole, GetParam().loss), micro = Model(batches[0], GetParam().loss);
  const Tensors expected = reference.Gradients();
  CompileHooks hooks;
  hooks.context.micro_batches = kMicroBatches;
  for (const Mesh& mesh : {Mesh(1), Mesh(2), Mesh(3), Mesh(2, 2)}) {
    SCOPED_TRACE(fmt::format("dp {}, sp {}", mesh.dp, mesh.sp));
    const auto compiled = CompileGraph(micro.graph, mesh, "ulysses", hooks);
    ASSERT_TRUE(compiled.ok()) << compiled.error().Format();
    for (const auto& collective : compiled->program.collectives) {
      EXPECT_EQ(MicroBatchesOf(compiled->program).Times(collective->instruction), 1) << collective->op << ": nothing here is reduced twice a step";
    }
    size_t pending = 0;
    for (size_t* late : {static_cast<size_t*>(nullptr), &pending}) {
      const auto ran = RunRanks(compiled->program, micro.parameters, batches, {}, late);
      ASSERT_TRUE(ran.ok()) << ran.error().Format();
      for (const RankResult& rank : *ran) {
        EXPECT_NEAR(rank.loss, reference.loss(), 1e-12);
        ASSERT_EQ(rank.gradients.size(), expected.size());
        for (const auto& [name, gradient] : expected) {
          EXPECT_LT(Norm(rank.gradients.at(name) - gradient), 1e-12 * (1 + Norm(gradient))) << name;
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Losses, AccumulateGraphTest, ::testing::ValuesIn(Losses()), [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace autospc::testing::totals
