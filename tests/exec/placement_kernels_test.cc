// The kernels between placements on P ranks as threads, against what their definitions say of the global tensor.
#include <ATen/ATen.h>

#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::StorageKind;

// Rows [rank * block, …) of x along dim, those past x's end repeating the last one or zero.
at::Tensor ShardOf(const at::Tensor& x, int64_t dim, int64_t block, int64_t rank, bool zero = false) {
  const int64_t valid = x.size(dim);
  const at::Tensor index = at::arange(block).add(rank * block);
  at::Tensor rows = x.index_select(dim, index.clamp_max(valid - 1));
  if (zero) {
    std::vector<int64_t> shape(x.dim(), 1);
    shape[dim] = block;
    rows = rows.masked_fill(index.ge(valid).view(shape), 0);
  }
  return rows.contiguous();
}

at::Tensor Data(at::IntArrayRef sizes, int64_t rank = 0) {
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  return at::arange(n, at::kFloat).mul(7).add(13 * rank).remainder(101).view(sizes).contiguous();
}

struct Case {
  int ranks;
  int64_t valid, block;
};
class PlacementKernelTest : public testing::TestWithParam<Case> {
 protected:
  // One instruction on `input_of(rank)`; `expected(rank)` is exact, and no byte lies outside the arena.
  template <typename InputOf, typename Expected>
  void Expect(const std::string& op, const std::vector<program::ArgT>& rest, InputOf input_of, Expected expected) {
    SCOPED_TRACE(op);
    const int ranks = GetParam().ranks;
    const at::Tensor like = input_of(0), out_like = expected(0);
    for (bool reversed : {false, true}) {
      std::vector<int64_t> strides = out_like.strides().vec();
      if (reversed && out_like.dim() > 1)
        strides = at::empty(std::vector<int64_t>(out_like.sizes().rbegin(), out_like.sizes().rend()))
                      .permute([&] {
                        std::vector<int64_t> order;
                        for (int64_t d = out_like.dim(); d-- > 0;) order.push_back(d);
                        return order;
                      }())
                      .strides()
                      .vec();
      ProgramBuilder b(ranks);
      const int in = b.Like(like);
      const int out = b.Tensor(out_like.scalar_type(), out_like.sizes().vec(), strides, StorageKind::Activation);
      std::vector<program::ArgT> args = {B::T(in)};
      args.insert(args.end(), rest.begin(), rest.end());
      b.Add(op, args, {out});
      RunRanks(
          b, ranks,
          [&](int r, Executor& e) {
            e.tensor(in).copy_(input_of(r));
            e.tensor(out).fill_(-5);
          },
          [&](int r, Executor& e) {
            EXPECT_TRUE(at::equal(e.tensor(out), expected(r))) << "rank " << r << "\n"
                                                               << e.tensor(out) << "\n"
                                                               << expected(r);
            EXPECT_EQ(e.OutsideBytes(), 0);
          });
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Ranks, PlacementKernelTest,
                         testing::Values(Case{1, 7, 7}, Case{2, 8, 4}, Case{3, 7, 3}, Case{4, 5, 2}, Case{4, 3, 1},
                                         Case{5, 11, 4}),
                         [](const auto& info) {
                           return "P" + std::to_string(info.param.ranks) + "_S" + std::to_string(info.param.valid) +
                                  "_" + std::to_string(info.param.block);
                         });

TEST_P(PlacementKernelTest, ShardAndGather) {
  const auto [ranks, valid, block] = GetParam();
  for (int64_t dim : {0, 1, 2}) {
    std::vector<int64_t> sizes = {2, 3, 4};
    sizes[dim] = valid;
    const at::Tensor x = Data(sizes);
    for (bool zero : {false, true}) {
      Expect(
          "autosp.shard", {B::I(dim), B::I(block), B::B(zero)}, [&](int) { return x; },
          [&, b = block](int r) { return ShardOf(x, dim, b, r, zero); });
    }
    Expect(
        "autosp.all_gather", {B::I(dim), B::I(valid), B::B(true)},
        [&, b = block](int r) { return ShardOf(x, dim, b, r); }, [&](int) { return x; });
  }
}

TEST_P(PlacementKernelTest, Sums) {
  const auto [ranks, valid, block] = GetParam();
  const at::Tensor sizes_like = Data({2, valid, 3});
  at::Tensor sum = at::zeros_like(sizes_like), top = sizes_like.clone();
  for (int r = 0; r < ranks; ++r) {
    sum.add_(Data({2, valid, 3}, r));
    top = at::maximum(top, Data({2, valid, 3}, r));
  }
  const auto mine = [&, v = valid](int r) { return Data({2, v, 3}, r); };
  Expect("autosp.all_reduce", {B::S("sum")}, mine, [&](int) { return sum; });
  Expect("autosp.all_reduce", {B::S("max")}, mine, [&](int) { return top; });
  for (bool zero : {false, true}) {
    Expect("autosp.reduce_scatter", {B::I(1), B::I(block), B::B(zero)}, mine,
           [&, b = block](int r) { return ShardOf(sum, 1, b, r, zero); });
  }
}

TEST_P(PlacementKernelTest, AllToAllThereAndBack) {
  const auto [ranks, valid, block] = GetParam();
  const int64_t heads = 6, head_block = (heads + ranks - 1) / ranks;
  const at::Tensor x = Data({2, heads, valid, 3});
  for (bool zero : {false, true}) {
    Expect(
        "autosp.all_to_all", {B::I(2), B::I(valid), B::I(1), B::I(head_block), B::B(zero)},
        [&, b = block](int r) { return ShardOf(x, 2, b, r); },
        [&](int r) { return ShardOf(x, 1, head_block, r, zero); });
    Expect(
        "autosp.all_to_all", {B::I(1), B::I(heads), B::I(2), B::I(block), B::B(zero)},
        [&](int r) { return ShardOf(x, 1, head_block, r); },
        [&, b = block](int r) { return ShardOf(x, 2, b, r, zero); });
  }
}

TEST_P(PlacementKernelTest, RowsPastTheEnd) {
  const auto [ranks, valid, block] = GetParam();
  const at::Tensor x = Data({2, valid, 3});
  const auto garbage = [&, b = block, v = valid](int r) {
    at::Tensor shard = ShardOf(x, 1, b, r, true);
    const int64_t have = std::clamp<int64_t>(v - r * b, 0, b);
    shard.narrow(1, have, b - have).fill_(NAN);
    return shard;
  };
  Expect("autosp.pad_last", {B::I(1), B::I(valid)}, garbage, [&, b = block](int r) { return ShardOf(x, 1, b, r); });
  Expect("autosp.mask", {B::I(1), B::I(valid), B::F(0)}, garbage,
         [&, b = block](int r) { return ShardOf(x, 1, b, r, true); });
  Expect(
      "autosp.first", {}, [&](int) { return x; }, [&](int r) { return r == 0 ? x : at::zeros_like(x); });
}

// Rows of any order and number: taken one by one, and their cotangents added up where they came from.
TEST_P(PlacementKernelTest, TakeAndItsAdjoint) {
  const int64_t size = 4;
  for (const std::vector<int64_t>& index :
       {std::vector<int64_t>{0, 1, 1, 3}, {3, 3, 3}, {2}, {0, 1, 2, 3}, {1, 0, 0, 1, 3, 2, 3}}) {
    for (int64_t dim : {0, 1, 2}) {
      std::vector<int64_t> sizes = {2, 3, 5};
      sizes[dim] = size;
      const auto x = [&](int r) { return Data(sizes, r); };
      Expect("autosp.take", {B::I(dim), B::Is(index)}, x,
             [&](int r) { return x(r).index_select(dim, at::tensor(index)).contiguous(); });
      sizes[dim] = static_cast<int64_t>(index.size());
      const auto g = [&](int r) { return Data(sizes, r); };
      Expect("autosp.take_backward", {B::I(dim), B::Is(index), B::I(size)}, g, [&](int r) {
        std::vector<int64_t> whole = sizes;
        whole[dim] = size;
        return at::zeros(whole).index_add(dim, at::tensor(index), g(r));  // small whole numbers: exact in any order
      });
    }
  }
}

// A result that lies in pieces (every other column of a wider buffer) is reduced in a dense copy. It is larger than
// a round of the transport, so that the copy and the rounds share the planned scratch.
TEST(CollectiveKernelTest, AnAllReduceIntoPiecesStaysInItsWorkspace) {
  for (const auto& [op, width] : {std::pair{"sum", int64_t{700'000}}, {"max", int64_t{700'000}}, {"sum", int64_t{5}}}) {
    ProgramBuilder b(2);
    const int in = b.Tensor(at::kDouble, {2, width});
    const int out = b.Tensor(at::kDouble, {2, width}, {2 * width, 2}, StorageKind::Activation);
    b.Add("autosp.all_reduce", {B::T(in), B::S(op)}, {out});
    const at::Tensor mine = at::arange(2 * width, at::kDouble).remainder(101).view({2, width});
    RunRanks(
        b, 2, [&](int r, Executor& e) { e.tensor(in).copy_(mine * (r + 1)); },
        [&, name = std::string_view(op)](int, Executor& e) {
          EXPECT_TRUE(at::equal(e.tensor(out), mine * (name == "sum" ? 3 : 2)));
          EXPECT_EQ(e.OutsideBytes(), 0);
        });
  }
}

TEST_P(PlacementKernelTest, PositionsClampAtTheLastOne) {
  const auto [ranks, valid, block] = GetParam();
  for (at::ScalarType type : {at::kLong, at::kInt, at::kFloat, at::kDouble}) {
    ProgramBuilder b(ranks);
    const int out = b.Tensor(type, {block}, {}, StorageKind::Activation);
    b.Add("autosp.positions", {B::I(5), B::I(2), B::I(block), B::I(valid), B::D(type)}, {out});
    RunRanks(
        b, ranks, [](int, Executor&) {},
        [&, n = block, v = valid](int r, Executor& e) {
          EXPECT_TRUE(at::equal(e.tensor(out), at::arange(n).add(r * n).clamp_max(v - 1).mul(2).add(5).to(type)));
        });
  }
}

// The mask of one element depends on its global index alone: shards put together are the unsharded result.
TEST_P(PlacementKernelTest, DropoutIsTheSameAtEveryNumberOfRanks) {
  const auto [ranks, valid, block] = GetParam();
  const at::Tensor x = at::ones({2, valid, 9});
  const auto run = [&](int p, int64_t b, uint64_t seed) {
    std::vector<at::Tensor> parts(p);
    ProgramBuilder builder(p);
    const int in = builder.Tensor(at::kFloat, {2, b, 9}),
              out = builder.Tensor(at::kFloat, {2, b, 9}, {}, StorageKind::Activation);
    builder.Add("autosp.dropout", {B::T(in), B::F(0.25), B::I(3), B::I(1), B::I(x.size(1)), B::I(1), B::I(1)}, {out});
    RunRanks(
        builder, p, [&](int r, Executor& e) { e.tensor(in).copy_(ShardOf(x, 1, b, r)); },
        [&](int r, Executor& e) { parts[r] = e.tensor(out).clone(); }, seed);
    return at::cat(parts, 1).narrow(1, 0, x.size(1)).contiguous();
  };
  const at::Tensor whole = run(1, valid, 11);
  EXPECT_TRUE(at::equal(run(ranks, block, 11), whole));
  EXPECT_FALSE(at::equal(run(ranks, block, 12), whole));
  const at::Tensor kept = whole.ne(0);
  EXPECT_TRUE(at::allclose(whole.masked_select(kept), at::full({kept.sum().item<int64_t>()}, 1 / 0.75)));
  EXPECT_NEAR(kept.to(at::kDouble).mean().item<double>(), 0.75, 0.2);
}

}  // namespace
}  // namespace autospc::exec
