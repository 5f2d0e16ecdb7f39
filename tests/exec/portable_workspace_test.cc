// The plan of a package for a GPU against the kernels that it is made for: what they cut fits, and what is left to LibTorch's
// allocator are numbers and masks of rows.
#include <ATen/ops/randn.h>

#include "runtime/package/portable_workspace.h"
#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::StorageKind;

constexpr int64_t kNumbersAndRows = 8 << 10;  // bytes

// Runs the builder's one instruction by the portable kernels on the host, where allocations are counted.
void ExpectInside(const ProgramBuilder& b) {
  const std::string& op = b.program().instructions[0]->op;
  SCOPED_TRACE(op);
  auto e = b.Build();
  ASSERT_TRUE(e.ok()) << e.error().Format();
  ASSERT_EQ((*e)->context().kernels, KernelSet::kPortable);
  for (size_t t = 0; t < b.program().tensors.size(); ++t) {
    const at::Tensor& x = (*e)->tensor(static_cast<int>(t));
    x.is_floating_point() && x.dim() > 0 ? x.copy_(at::randn(x.sizes())) : x.fill_(1);
  }
  const Status status = (*e)->Step({});
  ASSERT_TRUE(status.ok()) << status.error().Format();
  EXPECT_LE((*e)->OutsideBytes(), kNumbersAndRows);
}

TEST(PortableWorkspace, HoldsAnUpdate) {
  for (const bool narrow : {false, true}) {
    for (const std::vector<int64_t>& sizes : {std::vector<int64_t>{300, 400}, {3000, 1000}, {7}, {}}) {
      ProgramBuilder b(1, /*portable=*/true);
      const int p = b.Tensor(narrow ? at::kBFloat16 : at::kFloat, sizes), g = b.Tensor(narrow ? at::kBFloat16 : at::kFloat, sizes);
      const int m = b.Tensor(at::kFloat, sizes), v = b.Tensor(at::kFloat, sizes), master = b.Tensor(at::kFloat, sizes);
      const int clip = b.Tensor(at::kDouble, {}), lr = b.Tensor(at::kDouble, {}), step = b.Tensor(at::kLong, {});
      ProgramBuilder sgd = b.Copy();
      const program::ArgT of_master = narrow ? B::T(master) : B::None();
      b.Add("autosp.adamw_", {B::T(p), of_master, B::T(g), B::T(m), B::T(v), B::T(clip), B::T(lr), B::T(step), B::F(0.9), B::F(0.99), B::F(1e-8), B::F(0.1)}, {});
      ExpectInside(b);
      sgd.Add("autosp.sgd_", {B::T(p), of_master, B::T(g), B::T(clip), B::T(lr), B::F(0.1)}, {});
      ExpectInside(sgd);
    }
  }
}

TEST(PortableWorkspace, HoldsANorm) {
  ProgramBuilder b(1, /*portable=*/true);
  const int x = b.Tensor(at::kBFloat16, {2000, 1500});
  b.Add("autosp.grad_norm", {B::Ts({x})}, {b.Tensor(at::kDouble, {}, {}, StorageKind::Activation)});
  ExpectInside(b);
  ProgramBuilder c(1, /*portable=*/true);
  const int z = c.Tensor(at::kFloat, {40, 50}, {1, 40});
  c.Add("autosp.grad_norm", {B::Ts({z})}, {c.Tensor(at::kDouble, {}, {}, StorageKind::Activation)});
  ExpectInside(c);
}

TEST(PortableWorkspace, HoldsLayerNorm) {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    for (const int64_t rows : {60, 9000}) {
      const std::vector<int64_t> sizes = {2, rows / 2, 500};
      ProgramBuilder b(1, /*portable=*/true);
      const int x = b.Tensor(type, sizes), weight = b.Tensor(type, {500}), bias = b.Tensor(type, {500});
      const auto result = [&](std::vector<int64_t> s) { return b.Tensor(type, std::move(s), {}, StorageKind::Activation); };
      ProgramBuilder backward = b.Copy();
      b.Add("aten.native_layer_norm.default", {B::T(x), B::Is({500}), B::T(weight), B::T(bias), B::F(1e-5)},
            {result(sizes), result({2, rows / 2, 1}), result({2, rows / 2, 1})});
      ExpectInside(b);
      const int g = backward.Tensor(type, sizes), mean = backward.Tensor(type, {2, rows / 2, 1}), rstd = backward.Tensor(type, {2, rows / 2, 1});
      std::vector<int> results;
      for (const std::vector<int64_t>& s : {sizes, std::vector<int64_t>{500}, std::vector<int64_t>{500}}) {
        results.push_back(backward.Tensor(type, s, {}, StorageKind::Activation));
      }
      backward.Add("aten.native_layer_norm_backward.default",
                   {B::T(g), B::T(x), B::Is({500}), B::T(mean), B::T(rstd), B::T(weight), B::T(bias), B::Bs({1, 1, 1})}, results);
      ExpectInside(backward);
    }
  }
}

TEST(PortableWorkspace, HoldsAttention) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16}) {
    ProgramBuilder b(1, /*portable=*/true);
    const std::vector<int64_t> queries = {2, 4, 70, 16}, keys = {2, 2, 90, 16}, values = {2, 2, 90, 8}, results = {2, 4, 70, 8};
    const at::ScalarType wide = type == at::kDouble ? at::kDouble : at::kFloat;
    const int q = b.Tensor(type, queries), k = b.Tensor(type, keys), v = b.Tensor(type, values);
    ProgramBuilder backward = b.Copy();
    const std::vector<program::ArgT> rest = {B::S("true"), B::F(0.25), B::B(false), B::I(70), B::Is({}), B::B(false), B::I(4), B::F(0), B::I(0), B::I(0)};
    std::vector<program::ArgT> args = {B::T(q), B::T(k), B::T(v), B::Ts({})};
    args.insert(args.end(), rest.begin(), rest.end());
    b.Add("autosp.attention", args,
          {b.Tensor(type, results, {}, StorageKind::Activation), b.Tensor(wide, {2, 4, 70}, {}, StorageKind::Activation)});
    ExpectInside(b);
    const int g = backward.Tensor(type, results), out = backward.Tensor(type, results), lse = backward.Tensor(wide, {2, 4, 70});
    args = {B::T(g), B::T(q), B::T(k), B::T(v), B::Ts({}), B::T(out), B::T(lse)};
    args.insert(args.end(), rest.begin(), rest.end());
    std::vector<int> gradients;
    for (const std::vector<int64_t>& s : {queries, keys, values}) gradients.push_back(backward.Tensor(type, s, {}, StorageKind::Activation));
    backward.Add("autosp.attention_backward", args, gradients);
    ExpectInside(backward);
  }
}

TEST(PortableWorkspace, TilesFitTheirMemory) {
  AttentionShape s;
  s.batch = 2, s.q_heads = 8, s.kv_heads = 2, s.q_len = s.k_len = 100'000, s.dim = s.value_dim = 128, s.element_size = 2;
  const PortableTile planned = PlannedPortableTile(s);
  EXPECT_LE(s.batch * s.q_heads * planned.rows * planned.keys, int64_t{1} << 24);
  EXPECT_GE(s.batch * s.q_heads * planned.rows * planned.keys, int64_t{1} << 22);
  for (const bool backward : {false, true}) {
    const int64_t bytes = PortableAttentionBytes(s, planned, backward);
    EXPECT_EQ(FittingPortableTile(s, backward, bytes), planned);
    const PortableTile less = FittingPortableTile(s, backward, bytes - 1);
    EXPECT_LT(less.rows * less.keys, planned.rows * planned.keys);
    EXPECT_LT(PortableAttentionBytes(s, less, backward), bytes);
    EXPECT_EQ(FittingPortableTile(s, backward, 100), PortableTile{});
  }
  s.q_len = 3, s.k_len = 5;
  EXPECT_EQ(PlannedPortableTile(s), (PortableTile{3, 5}));
}

}  // namespace
}  // namespace autospc::exec
