// Every kernel of our own for an op of LibTorch against LibTorch's functional op: same values in the planned
// layout, and no tensor byte outside the planned workspace.
#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;

// One argument of a case: an operand, or a constant.
struct Operand {
  at::Tensor tensor;
  std::vector<at::Tensor> list;
  program::ArgT arg;
};
Operand In(at::Tensor t) { return {std::move(t), {}, {}}; }
Operand In(std::vector<at::Tensor> ts) { return {{}, std::move(ts), {}}; }
Operand C(program::ArgT a) { return {{}, {}, std::move(a)}; }

at::Tensor Rand(at::IntArrayRef sizes, at::ScalarType type = at::kFloat) { return at::randn(sizes).to(type); }

// A tensor of the same values whose dims lie in memory in the reverse order.
at::Tensor Reversed(const at::Tensor& t) {
  std::vector<int64_t> order(t.dim());
  for (int64_t d = 0; d < t.dim(); ++d) order[d] = t.dim() - 1 - d;
  return t.permute(order).contiguous().permute(order);
}

// The functional op by the dispatcher: its results.
std::vector<at::Tensor> Reference(const std::string& op, const Executor& executor) {
  const auto [base, overload] = DispatcherName(op);
  Call call;
  call.context = &executor.context();
  const program::InstructionT& ins = *executor.program().instructions[0];
  call.instruction = &ins;
  for (const auto& arg : ins.args) {
    CallArg a{arg.get(), {}, {}};
    if (arg->kind == program::ArgKind::Tensor) a.tensor = executor.tensor(arg->tensor).clone();
    for (int64_t t : arg->kind == program::ArgKind::TensorList ? arg->ints : std::vector<int64_t>{}) {
      a.tensors.push_back(t < 0 ? at::Tensor() : executor.tensor(static_cast<int>(t)).clone());
    }
    call.args.push_back(std::move(a));
  }
  for (int out : ins.outputs) call.outputs.push_back(executor.tensor(out).clone().contiguous());
  auto kernel = MakeLibraryKernel(call);
  EXPECT_TRUE(kernel.ok()) << op << (kernel.ok() ? "" : kernel.error().Format());
  if (!kernel.ok()) return {};
  const Status status = kernel->kernel();
  EXPECT_TRUE(status.ok()) << op;
  return call.outputs;
}

// `results`: the planned results' types, sizes and strides (of the values of these tensors nothing is used).
void ExpectAsLibrary(const std::string& op, const std::vector<Operand>& operands,
                     const std::vector<at::Tensor>& results, double tolerance = 1e-5) {
  SCOPED_TRACE(op);
  ProgramBuilder builder;
  std::vector<program::ArgT> args;
  std::vector<std::pair<int, at::Tensor>> values;
  auto add = [&](const at::Tensor& t) {
    if (!t.defined()) return -1;
    values.emplace_back(builder.Like(t), t);
    return values.back().first;
  };
  for (const Operand& operand : operands) {
    if (operand.tensor.defined()) {
      args.push_back(B::T(add(operand.tensor)));
    } else if (!operand.list.empty()) {
      std::vector<int64_t> list;
      for (const at::Tensor& t : operand.list) list.push_back(add(t));
      args.push_back(B::Ts(list));
    } else {
      args.push_back(operand.arg);
    }
  }
  std::vector<int> outputs;
  for (const at::Tensor& r : results) {
    outputs.push_back(
        builder.Tensor(r.scalar_type(), r.sizes().vec(), r.strides().vec(), program::StorageKind::Activation));
  }
  builder.Add(op, args, outputs);
  auto built = builder.Build();
  ASSERT_TRUE(built.ok()) << built.error().Format();
  std::vector<std::unique_ptr<Executor>> executors;
  executors.push_back(std::move(built).value());
  std::unique_ptr<Executor>* const executor = executors.data();
  ASSERT_EQ((*executor)->way(0), Way::kOwn);
  for (const auto& [index, value] : values) (*executor)->tensor(index).copy_(value);
  for (int out : outputs) (*executor)->tensor(out).fill_(113);  // what the buffer held before
  const FarAway far(builder, executors);
  const Status status = (*executor)->Step({});
  ASSERT_TRUE(status.ok()) << status.error().Format();
  EXPECT_EQ((*executor)->OutsideBytes(), 0);
  far.Step();
  far.ExpectSame();
  const std::vector<at::Tensor> expected = Reference(op, **executor);
  ASSERT_EQ(expected.size(), outputs.size());
  for (size_t i = 0; i < outputs.size(); ++i) {
    const at::Tensor& got = (*executor)->tensor(outputs[i]);
    EXPECT_TRUE(
        at::allclose(got.to(at::kDouble), expected[i].to(at::kDouble), tolerance, tolerance, /*equal_nan=*/true))
        << "result " << i << " differs by "
        << (got.to(at::kDouble) - expected[i].to(at::kDouble)).abs().max().item<double>();
  }
}

class TypedKernelTest : public testing::TestWithParam<at::ScalarType> {
 protected:
  // bfloat16 has 8 bits, float16 11; one rounding at the end is what a kernel with wider sums may differ by.
  double tolerance() const {
    switch (GetParam()) {
      case at::kBFloat16:
        return 2e-2;
      case at::kHalf:
        return 3e-3;
      default:
        return 1e-5;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Types, TypedKernelTest, testing::Values(at::kFloat, at::kDouble, at::kBFloat16, at::kHalf),
                         [](const auto& info) { return std::string(c10::toString(info.param)); });

TEST_P(TypedKernelTest, Creation) {
  const auto t = GetParam();
  const at::Tensor out = Rand({3, 5}, t);
  for (const char* op : {"aten.zeros_like.default", "aten.ones_like.default"}) {
    ExpectAsLibrary(op, {In(out), C(B::None()), C(B::None()), C(B::None()), C(B::None()), C(B::None())}, {out});
  }
  ExpectAsLibrary("aten.full.default",
                  {C(B::Is({3, 5})), C(B::F(2.5)), C(B::D(t)), C(B::None()), C(B::None()), C(B::None())}, {out});
  ExpectAsLibrary("aten.new_zeros.default",
                  {In(Rand({2}, t)), C(B::Is({3, 5})), C(B::None()), C(B::None()), C(B::None()), C(B::None())},
                  {Reversed(out)});
  ExpectAsLibrary("aten.arange.start_step",
                  {C(B::I(3)), C(B::I(17)), C(B::I(2)), C(B::D(t)), C(B::None()), C(B::None()), C(B::None())},
                  {Rand({7}, t)});
}

TEST_P(TypedKernelTest, Copies) {
  const auto t = GetParam();
  const at::Tensor x = Rand({4, 6, 5}, t);
  ExpectAsLibrary("aten.clone.default", {In(Reversed(x)), C(B::None())}, {x});
  ExpectAsLibrary("aten.clone.default", {In(x), C(B::None())}, {Reversed(x)});
  // Large enough for LibTorch's blocked transposition, which takes a buffer.
  ExpectAsLibrary("aten.clone.default", {In(Rand({80, 90}, t).t()), C(B::None())}, {Rand({90, 80}, t)});
  ExpectAsLibrary("aten._to_copy.default",
                  {In(x), C(B::D(at::kDouble)), C(B::None()), C(B::None()), C(B::None()), C(B::B(false)), C(B::None())},
                  {Rand({4, 6, 5}, at::kDouble)});
  ExpectAsLibrary("aten.slice_backward.default",
                  {In(x), C(B::Is({4, 20, 5})), C(B::I(1)), C(B::I(3)), C(B::I(15)), C(B::I(2))},
                  {Rand({4, 20, 5}, t)});
  ExpectAsLibrary("aten.select_backward.default", {In(x), C(B::Is({4, 3, 6, 5})), C(B::I(1)), C(B::I(2))},
                  {Rand({4, 3, 6, 5}, t)});
  ExpectAsLibrary("aten.constant_pad_nd.default", {In(x), C(B::Is({1, 2, -1, 3})), C(B::F(7))}, {Rand({4, 8, 8}, t)});
  ExpectAsLibrary("aten.repeat.default", {In(x), C(B::Is({2, 3, 1, 2}))}, {Rand({2, 12, 6, 10}, t)});
  ExpectAsLibrary("aten.stack.default", {In(std::vector<at::Tensor>{x, Reversed(x)}), C(B::I(-1))},
                  {Rand({4, 6, 5, 2}, t)});
  ExpectAsLibrary("aten.slice_scatter.default",
                  {In(x), In(Rand({4, 2, 5}, t)), C(B::I(1)), C(B::I(1)), C(B::I(3)), C(B::I(1))}, {x});
  ExpectAsLibrary("aten.select_scatter.default", {In(x), In(Rand({4, 5}, t)), C(B::I(1)), C(B::I(4))}, {x});
  ExpectAsLibrary("aten._unsafe_view.default", {In(x), C(B::Is({24, 5}))}, {Reversed(Rand({24, 5}, t))});
}

TEST_P(TypedKernelTest, Arithmetic) {
  const auto t = GetParam();
  const at::Tensor x = Rand({4, 7}, t), y = Rand({4, 7}, t);
  ExpectAsLibrary("aten.add.Scalar", {In(x), C(B::F(1.5)), C(B::I(2))}, {Reversed(x)}, tolerance());
  ExpectAsLibrary("aten.rsub.Scalar", {In(x), C(B::F(1.5)), C(B::I(1))}, {x}, tolerance());
  ExpectAsLibrary("aten.rsub.Tensor", {In(x), In(y), C(B::I(1))}, {x}, tolerance());
  ExpectAsLibrary("aten.mul.Scalar", {In(x), C(B::F(1.5))}, {x}, tolerance());
  ExpectAsLibrary("aten.div.Scalar", {In(x), C(B::F(3))}, {x}, tolerance());
  ExpectAsLibrary("aten.relu.default", {In(x)}, {x});
  ExpectAsLibrary("aten.masked_fill.Scalar", {In(x), In(y.gt(0)), C(B::F(-3))}, {x});
  ExpectAsLibrary("aten.masked_fill.Tensor", {In(x), In(y.gt(0)), In(Rand({}, t))}, {x});
  ExpectAsLibrary("aten.sum.default", {In(Reversed(x)), C(B::None())}, {Rand({}, t)}, 10 * tolerance());
  ExpectAsLibrary("aten.mean.default", {In(x), C(B::None())}, {Rand({}, t)}, 10 * tolerance());
  ExpectAsLibrary("aten.logsumexp.default", {In(x), C(B::Is({1})), C(B::B(false))}, {Rand({4}, t)}, tolerance());
  ExpectAsLibrary("aten.logsumexp.default", {In(at::full_like(x, -INFINITY)), C(B::Is({1})), C(B::B(true))},
                  {Rand({4, 1}, t)});
}

TEST_P(TypedKernelTest, ProductsAddedUp) {
  const auto t = GetParam();
  const at::Tensor a = Rand({4, 6}, t), b = Rand({6, 5}, t), sum = Rand({4, 5}, t);
  ExpectAsLibrary("aten.addmm.default", {In(sum), In(a), In(b), C(B::I(1)), C(B::I(1))}, {sum}, tolerance());
  ExpectAsLibrary("aten.addmm.default", {In(Rand({5}, t)), In(Reversed(a)), In(b), C(B::I(1)), C(B::F(0.5))}, {sum}, tolerance());
  ExpectAsLibrary("aten.baddbmm.default",
                  {In(Rand({2, 4, 5}, t)), In(Rand({2, 4, 6}, t)), In(Rand({2, 6, 5}, t)), C(B::I(1)), C(B::I(1))},
                  {Rand({2, 4, 5}, t)}, tolerance());
}

// 16-bit matrices in every layout that BLAS takes and one that it does not, into a row-major or transposed result: as a
// product of float32 matrices, up to the order of its sums.
TEST(KernelTest, ProductsOfSixteenBitsInFloat32) {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor a = Rand({37, 130}, type), b = Rand({130, 21}, type), sum = Rand({37, 21});
    const at::Tensor apart = at::empty({37, 260}, a.options()).slice(1, 0, 260, 2).copy_(a);
    for (const at::Tensor& x : {a, Reversed(a), apart}) {
      for (const bool transposed : {false, true}) {
        for (const bool add : {false, true}) {
          ProgramBuilder builder;
          const at::Tensor like = transposed ? Reversed(sum) : sum;
          const int s = builder.Like(like), i = builder.Like(x), j = builder.Like(Reversed(b));
          const int out = builder.Tensor(at::kFloat, like.sizes().vec(), like.strides().vec(), program::StorageKind::Activation);
          program::ArgT dtype;
          dtype.kind = program::ArgKind::DType;
          dtype.dtype = program::DType::Float32;
          if (add) {
            builder.Add("aten.addmm.dtype", {B::T(s), B::T(i), B::T(j), dtype, B::I(1), B::I(1)}, {out});
          } else {
            builder.Add("aten.mm.dtype", {B::T(i), B::T(j), dtype}, {out});
          }
          auto executor = builder.Build();
          ASSERT_TRUE(executor.ok()) << executor.error().Format();
          (*executor)->tensor(s).copy_(sum), (*executor)->tensor(i).copy_(x), (*executor)->tensor(j).copy_(b);
          (*executor)->tensor(out).fill_(113);
          const Status status = (*executor)->Step({});
          ASSERT_TRUE(status.ok()) << status.error().Format();
          EXPECT_EQ((*executor)->OutsideBytes(), 0);
          at::Tensor expected = a.to(at::kFloat).mm(b.to(at::kFloat));
          if (add) expected += sum;
          EXPECT_TRUE(at::allclose((*executor)->tensor(out), expected, 1e-4, 1e-4));
        }
      }
    }
  }
}

TEST(KernelTest, AFloat32ProductOfFloat32IsRefused) {
  ProgramBuilder builder;
  const at::Tensor a = Rand({3, 3});
  const int x = builder.Like(a), out = builder.Like(a);
  program::ArgT dtype;
  dtype.kind = program::ArgKind::DType;
  dtype.dtype = program::DType::Float32;
  builder.Add("aten.mm.dtype", {B::T(x), B::T(x), dtype}, {out});
  const auto executor = builder.Build();
  ASSERT_FALSE(executor.ok());
  EXPECT_NE(executor.error().what.find("two 16-bit matrices"), std::string::npos);
}

// As --dtype bf16 computes it: float32 weight, bias and statistics beside a bfloat16 input, against float64. What is
// bfloat16 is off by one rounding, what is float32 by float32's.
TEST(KernelTest, LayerNormOfTwoTypes) {
  const at::Tensor x = Rand({5, 13, 37}, at::kBFloat16) + 2, w = Rand({37}), b = Rand({37}), g = Rand({5, 13, 37}, at::kBFloat16);
  const at::Tensor stat = at::empty({5, 13, 1});
  ProgramBuilder builder;
  const int xs = builder.Like(x), ws = builder.Like(w), bs = builder.Like(b), gs = builder.Like(g);
  const int out = builder.Like(x), mean = builder.Like(stat), rstd = builder.Like(stat);
  const int dx = builder.Like(x), dw = builder.Like(w), db = builder.Like(b);
  builder.Add("aten.native_layer_norm.default", {B::T(xs), B::Is({37}), B::T(ws), B::T(bs), B::F(1e-5)}, {out, mean, rstd});
  builder.Add("aten.native_layer_norm_backward.default",
              {B::T(gs), B::T(xs), B::Is({37}), B::T(mean), B::T(rstd), B::T(ws), B::T(bs), B::Bs({1, 1, 1})}, {dx, dw, db});
  auto executor = builder.Build();
  ASSERT_TRUE(executor.ok()) << executor.error().Format();
  const auto set = [&](int t, const at::Tensor& v) { (*executor)->tensor(t).copy_(v); };
  set(xs, x), set(ws, w), set(bs, b), set(gs, g);
  const Status status = (*executor)->Step({});
  ASSERT_TRUE(status.ok()) << status.error().Format();
  const auto wide = [](const at::Tensor& t) { return t.to(at::kDouble); };
  const auto [y, m, r] = at::native_layer_norm(wide(x), {37}, wide(w), wide(b), 1e-5);
  const auto [gx, gw, gb] = at::native_layer_norm_backward(wide(g), wide(x), {37}, m, r, wide(w), wide(b), {true, true, true});
  const auto close = [&](int t, const at::Tensor& expected, double tolerance) {
    EXPECT_TRUE(at::allclose(wide((*executor)->tensor(t)), expected, tolerance, tolerance)) << "tensor " << t;
  };
  close(out, y, 8e-3), close(dx, gx, 8e-3);
  close(mean, m, 1e-5), close(rstd, r, 1e-5), close(dw, gw, 1e-4), close(db, gb, 1e-4);
}

TEST(KernelTest, LayerNormOfFloatWithSixteenBitWeightsIsRefused) {
  ProgramBuilder builder;
  const at::Tensor x = Rand({5, 7}), stat = at::empty({5, 1});
  const int i = builder.Like(x), w = builder.Like(Rand({7}, at::kBFloat16)), out = builder.Like(x), mean = builder.Like(stat),
            rstd = builder.Like(stat);
  builder.Add("aten.native_layer_norm.default", {B::T(i), B::Is({7}), B::T(w), B::None(), B::F(1e-5)}, {out, mean, rstd});
  const auto executor = builder.Build();
  ASSERT_FALSE(executor.ok());
  EXPECT_NE(executor.error().what.find("operands and results that don't fit"), std::string::npos) << executor.error().Format();
}

TEST(KernelTest, SumOfABoolTensorCastsInTheWorkspace) {
  ExpectAsLibrary("aten.sum.default", {In(Rand({300, 7}).gt(0)), C(B::None())}, {at::empty({}, at::kLong)});
}

TEST_P(TypedKernelTest, Lookups) {
  const auto t = GetParam();
  const at::Tensor weight = Rand({11, 600}, t), index = at::randint(0, 11, {3, 40}, at::kLong);
  const at::Tensor rows = Rand({3, 40, 600}, t);
  ExpectAsLibrary("aten.embedding.default", {In(weight), In(index), C(B::I(-1)), C(B::B(false)), C(B::B(false))},
                  {rows});
  ExpectAsLibrary("aten.embedding.default", {In(weight), In(index.t()), C(B::I(-1)), C(B::B(false)), C(B::B(false))},
                  {Rand({40, 3, 600}, t)});
  // LibTorch adds up 16-bit rows in 16 bits; ours in float32. The comparison allows for theirs: 40 addends.
  const double sums = t == at::kFloat ? 1e-4 : t == at::kDouble ? 1e-10 : 40 * tolerance();
  for (int64_t padding : {-1, 4}) {
    for (bool frequency : {false, true}) {
      ExpectAsLibrary("aten.embedding_dense_backward.default",
                      {In(rows), In(index), C(B::I(11)), C(B::I(padding)), C(B::B(frequency))}, {weight}, sums);
    }
  }
  ExpectAsLibrary("aten.embedding_dense_backward.default",
                  {In(Reversed(rows)), In(index), C(B::I(11)), C(B::I(-1)), C(B::B(false))}, {Reversed(weight)}, sums);
  ExpectAsLibrary("aten.index_put.default",
                  {In(weight), In(std::vector<at::Tensor>{at::arange(5)}), In(Rand({5, 600}, t)), C(B::B(true))},
                  {weight}, tolerance());
}

TEST_P(TypedKernelTest, LayerNorm) {
  const auto t = GetParam();
  const at::Tensor x = Rand({5, 13, 37}, t) + 2, w = Rand({37}, t), b = Rand({37}, t);
  const at::Tensor stat = at::empty({5, 13, 1}, x.options());
  const auto shape = C(B::Is({37}));
  ExpectAsLibrary("aten.native_layer_norm.default", {In(x), shape, In(w), In(b), C(B::F(1e-5))}, {x, stat, stat},
                  tolerance());
  ExpectAsLibrary("aten.native_layer_norm.default", {In(Reversed(x)), shape, C(B::None()), C(B::None()), C(B::F(1e-5))},
                  {Reversed(x), stat, stat}, tolerance());
  const auto d = x.to(at::kDouble);
  const at::Tensor mean = d.mean(-1, true), rstd = d.var(-1, false, true).add(1e-5).rsqrt();
  const double sums = 30 * tolerance();  // 65 rows are added up for weight and bias
  ExpectAsLibrary(
      "aten.native_layer_norm_backward.default",
      {In(Rand({5, 13, 37}, t)), In(x), shape, In(mean.to(t)), In(rstd.to(t)), In(w), In(b), C(B::Bs({1, 1, 1}))},
      {x, w, b}, sums);
}

// The compiler plans by one list and the executor runs by another.
TEST(KernelTest, CompilerAndRuntimeKnowTheSameKernels) {
  for (const auto& [op, maker] : KernelTable::Get().all()) {
    if (op == "autosp.vary" || op == "autosp.stop_gradient")
      continue;  // aliases in a program; kept for hand-built ones
    EXPECT_NE(FindKernel(op), nullptr) << op << " is missing in runtime/package/kernels.cc";
  }
}

TEST(KernelTest, BothSetsHoldTheSameOps) {
  const auto ops = [](KernelSet set) {
    std::vector<std::string_view> names;
    for (const auto& [op, maker] : KernelTable::Get(set).all()) names.push_back(op);
    return names;
  };
  EXPECT_EQ(ops(KernelSet::kHost), ops(KernelSet::kPortable));
}

TEST(OutVariantTest, OnlyWhatWritesWhereItIsTold) {
  EXPECT_EQ(OutVariant("aten.add.Tensor"), "aten.add.out");
  EXPECT_EQ(OutVariant("aten.mm.default"), "aten.mm.out");
  EXPECT_EQ(OutVariant("aten.sum.dim_IntList"), "aten.sum.IntList_out");
  EXPECT_EQ(OutVariant("aten._log_softmax.default"), "aten._log_softmax.out");
  for (const char* composite :
       {"aten.embedding.default", "aten.clone.default", "aten.native_layer_norm.default",
        "aten.embedding_dense_backward.default", "aten.mse_loss.default", "aten.native_batch_norm.default", "aten.add_.Tensor", "aten.view.default", "aten.none.default"}) {
    EXPECT_EQ(OutVariant(composite), std::nullopt) << composite;
  }
}

}  // namespace
}  // namespace autospc::exec
