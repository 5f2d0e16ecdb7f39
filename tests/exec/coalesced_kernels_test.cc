// Collectives over many tensors, and updates of a rank's own block, against LibTorch's ops on whole tensors.
#include <ATen/ATen.h>

#include "runtime/exec/blocks.h"
#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::StorageKind;

// A tensor of each kind that a bucket may hold: fewer elements than ranks, a transposed matrix, several rounds.
std::vector<at::Tensor> Gradients(int rank, at::ScalarType type, bool large) {
  at::manual_seed(100 + rank);
  std::vector<at::Tensor> xs = {at::randn({}).to(type), at::randn({3}).to(type), at::randn({37, 91}).to(type).t(),
                                at::randn({2, 5, 7}).to(type).permute({2, 0, 1})};
  if (large) xs.push_back(at::randn({1500000}).to(type));
  xs.push_back(at::randn({129}).to(type));
  return xs;
}

std::vector<int64_t> Add(ProgramBuilder* b, const std::vector<at::Tensor>& xs) {
  std::vector<int64_t> tensors;
  for (const at::Tensor& x : xs) tensors.push_back(b->Like(x));
  return tensors;
}

// The sum in the order of ranks, 16-bit floats accumulated in float32: what the communicator promises, bit by bit.
at::Tensor Sum(const std::vector<std::vector<at::Tensor>>& by_rank, size_t i) {
  const at::ScalarType type = by_rank[0][i].scalar_type();
  const at::ScalarType wide = type == at::kBFloat16 ? at::kFloat : type;
  at::Tensor sum = by_rank[0][i].to(wide);
  for (size_t r = 1; r < by_rank.size(); ++r) sum = sum + by_rank[r][i].to(wide);
  return sum.to(type);
}

at::Tensor Block(const at::Tensor& whole, int rank, int ranks) {
  const int64_t n = whole.numel(), block = BlockLength(n, ranks), begin = std::min(n, rank * block);
  const at::Tensor own = whole.reshape({n}).narrow(0, begin, std::min(block, n - begin));
  return at::constant_pad_nd(own, {0, block - own.numel()}, 0);
}

TEST(BlocksTest, AnyRangeOfAnyStrides) {
  const at::Tensor dense = at::arange(3 * 40 * 17, at::kInt).view({3, 40, 17});
  for (const at::Tensor& x : {dense, dense.transpose(1, 2), dense.permute({2, 1, 0}), dense.select(0, 1).t(),
                              dense.to(at::kShort).transpose(0, 2), dense.to(at::kComplexDouble).transpose(0, 1),
                              dense.to(at::kBool).transpose(0, 1)}) {
    const at::Tensor flat = x.reshape({-1});
    const int64_t n = x.numel();
    for (const auto& [begin, end] :
         std::vector<std::pair<int64_t, int64_t>>{{0, n}, {0, 1}, {5, 5}, {16, 18}, {33, n - 7}, {n - 1, n}}) {
      at::Tensor got = at::empty({end - begin}, x.options());
      CopyElements(x, begin, end, static_cast<std::byte*>(got.data_ptr()));
      EXPECT_TRUE(at::equal(got, flat.slice(0, begin, end))) << begin << " " << end << " " << x.strides();
    }
    at::Tensor got = at::ones({20}, x.options());
    CopyElementsOrZero(x, n - 4, n + 16, static_cast<std::byte*>(got.data_ptr()));
    EXPECT_TRUE(at::equal(got, at::constant_pad_nd(flat.slice(0, n - 4), {0, 16}, 0)));
  }
}

TEST(BlocksTest, ColumnsAreWalkedOnce) {
  const std::vector<int64_t> blocks = {1, 5, 3, 4};
  for (int64_t width = 1; width <= 14; ++width) {
    std::vector<int> seen(13, 0);
    for (int64_t begin = 0; begin < 13; begin += width) {
      int64_t next = 0;
      ForColumns(blocks, begin, std::min<int64_t>(13, begin + width),
                 [&](size_t i, int64_t from, int64_t n, int64_t at) {
                   EXPECT_EQ(at, next);
                   next += n;
                   int64_t start = 0;
                   for (size_t j = 0; j < i; ++j) start += blocks[j];
                   for (int64_t k = 0; k < n; ++k) ++seen[start + from + k];
                 });
    }
    EXPECT_EQ(seen, std::vector<int>(13, 1)) << width;
  }
}

class CoalescedTest : public testing::TestWithParam<std::tuple<int, at::ScalarType>> {};
INSTANTIATE_TEST_SUITE_P(Ranks, CoalescedTest,
                         testing::Combine(testing::Values(1, 2, 3, 4, 5), testing::Values(at::kFloat, at::kBFloat16)));

TEST_P(CoalescedTest, AllReduce) {
  const auto [ranks, type] = GetParam();
  std::vector<std::vector<at::Tensor>> given;
  for (int r = 0; r < ranks; ++r) given.push_back(Gradients(r, type, ranks == 2));
  ProgramBuilder b(ranks);
  const std::vector<int64_t> xs = Add(&b, given[0]);
  b.Add("autosp.all_reduce_coalesced_", {B::Ts(xs), B::S("sum")}, {});
  RunRanks(
      b, ranks,
      [&](int r, Executor& e) {
        for (size_t i = 0; i < xs.size(); ++i) e.tensor(xs[i]).copy_(given[r][i]);
      },
      [&](int r, Executor& e) {
        for (size_t i = 0; i < xs.size(); ++i) EXPECT_TRUE(at::equal(e.tensor(xs[i]), Sum(given, i))) << r << " " << i;
        EXPECT_EQ(e.OutsideBytes(), 0);
      });
}

TEST_P(CoalescedTest, ReduceScatter) {
  const auto [ranks, type] = GetParam();
  std::vector<std::vector<at::Tensor>> given;
  for (int r = 0; r < ranks; ++r) given.push_back(Gradients(r, type, ranks == 3));
  ProgramBuilder b(ranks);
  const std::vector<int64_t> xs = Add(&b, given[0]);
  std::vector<int> blocks;
  for (const at::Tensor& x : given[0]) {
    blocks.push_back(b.Tensor(type, {BlockLength(x.numel(), ranks)}, {}, StorageKind::Activation));
  }
  b.Add("autosp.reduce_scatter_coalesced", {B::Ts(xs)}, blocks);
  RunRanks(
      b, ranks,
      [&](int r, Executor& e) {
        for (size_t i = 0; i < xs.size(); ++i) e.tensor(xs[i]).copy_(given[r][i]);
      },
      [&](int r, Executor& e) {
        for (size_t i = 0; i < xs.size(); ++i) {
          EXPECT_TRUE(at::equal(e.tensor(blocks[i]), Block(Sum(given, i), r, ranks))) << r << " " << i;
          EXPECT_TRUE(at::equal(e.tensor(xs[i]), given[r][i])) << "operands stay";
        }
        EXPECT_EQ(e.OutsideBytes(), 0);
      });
}

TEST_P(CoalescedTest, OwnBlocksGatheredGiveTheWhole) {
  const auto [ranks, type] = GetParam();
  const std::vector<at::Tensor> given = Gradients(0, type, ranks == 2);
  ProgramBuilder b(ranks);
  std::vector<int64_t> wholes;
  std::vector<int> blocks, strided;
  for (const at::Tensor& x : given) {
    wholes.push_back(b.Tensor(type, x.sizes().vec()));
    blocks.push_back(b.Tensor(type, {BlockLength(x.numel(), ranks)}, {}, StorageKind::Activation));
    strided.push_back(b.Like(x));
    b.Add("autosp.own_block", {B::T(strided.back())}, {blocks.back()});
  }
  b.Add("autosp.all_gather_coalesced_", {B::Ts(wholes)}, {});
  RunRanks(
      b, ranks,
      [&](int r, Executor& e) {
        for (size_t i = 0; i < given.size(); ++i) {
          e.tensor(strided[i]).copy_(given[i]);
          // Of the whole each rank has its own block right, and the rest wrong.
          const int64_t n = given[i].numel(), block = BlockLength(n, ranks), begin = std::min(n, r * block);
          const at::Tensor flat = e.tensor(static_cast<int>(wholes[i])).view({n});
          flat.fill_(-7);
          const at::Tensor own = flat.narrow(0, begin, std::min(block, n - begin));
          own.copy_(Block(given[i], r, ranks).narrow(0, 0, own.numel()));
        }
      },
      [&](int r, Executor& e) {
        for (size_t i = 0; i < given.size(); ++i) {
          EXPECT_TRUE(at::equal(e.tensor(blocks[i]), Block(given[i], r, ranks))) << r << " " << i;
          EXPECT_TRUE(at::equal(e.tensor(static_cast<int>(wholes[i])), given[i])) << r << " " << i;
        }
        EXPECT_EQ(e.OutsideBytes(), 0);
      });
}

// Three steps of the sharded update, gathered, against the whole one: the same bits.
TEST_P(CoalescedTest, UpdatesOfBlocksAreTheWholeUpdate) {
  const auto [ranks, type] = GetParam();
  const bool narrow = type == at::kBFloat16;
  const at::Tensor start = at::randn({7, 33}).to(type), gradient = at::randn({7, 33}).to(type);
  const int64_t n = 7 * 33, block = BlockLength(n, ranks);
  for (const bool adam : {true, false}) {
    ProgramBuilder b(ranks);
    struct One {
      int p, master, g, m, v;
    };
    const auto make = [&](std::vector<int64_t> sizes) {
      return One{b.Tensor(type, {7, 33}), narrow ? b.Tensor(at::kFloat, sizes) : -1, b.Tensor(type, sizes),
                 b.Tensor(at::kFloat, sizes, {}, StorageKind::Optimizer),
                 b.Tensor(at::kFloat, sizes, {}, StorageKind::Optimizer)};
    };
    const One whole = make({7, 33}), own = make({block});
    const int clip = b.Tensor(at::kDouble, {}), lr = b.Tensor(at::kDouble, {}), step = b.Tensor(at::kLong, {});
    for (int i = 0; i < 3; ++i) {
      for (const One& o : {whole, own}) {
        const std::string suffix = o.p == own.p ? "_shard_" : "_";
        const auto master = narrow ? B::T(o.master) : B::None();
        if (adam) {
          b.Add("autosp.adamw" + suffix,
                {B::T(o.p), master, B::T(o.g), B::T(o.m), B::T(o.v), B::T(clip), B::T(lr), B::T(step), B::F(0.9),
                 B::F(0.999), B::F(1e-8), B::F(0.01)},
                {});
        } else {
          b.Add("autosp.sgd" + suffix, {B::T(o.p), master, B::T(o.g), B::T(clip), B::T(lr), B::F(0.1)}, {});
        }
      }
    }
    b.Add("autosp.all_gather_coalesced_", {B::Ts({own.p})}, {});
    RunRanks(
        b, ranks,
        [&](int r, Executor& e) {
          for (const One& o : {whole, own}) e.tensor(o.p).copy_(start);
          e.tensor(whole.g).copy_(gradient);
          e.tensor(own.g).copy_(Block(gradient, r, ranks));
          if (narrow) e.tensor(whole.master).copy_(start), e.tensor(own.master).copy_(Block(start, r, ranks));
          e.tensor(clip).fill_(0.3), e.tensor(lr).fill_(0.02), e.tensor(step).fill_(1);
        },
        [&](int r, Executor& e) {
          EXPECT_FALSE(at::equal(e.tensor(whole.p), start));
          EXPECT_TRUE(at::equal(e.tensor(own.p), e.tensor(whole.p))) << r;
          if (narrow) EXPECT_TRUE(at::equal(e.tensor(own.master), Block(e.tensor(whole.master), r, ranks)));
          if (adam) EXPECT_TRUE(at::equal(e.tensor(own.v), Block(e.tensor(whole.v), r, ranks)));
        });
  }
}

TEST(CoalescedErrorsTest, OtherLengthsAndTypesAreRefused) {
  const auto refused = [](const ProgramBuilder& b, std::string_view what) {
    const auto e = b.Build();
    ASSERT_FALSE(e.ok());
    EXPECT_EQ(e.error().code, Code::kBadInput);
    EXPECT_NE(e.error().what.find(what), std::string::npos) << e.error().Format();
  };
  {
    ProgramBuilder b;
    const int x = b.Tensor(at::kFloat, {5}), y = b.Tensor(at::kFloat, {4}, {}, StorageKind::Activation);
    b.Add("autosp.reduce_scatter_coalesced", {B::Ts({x})}, {y});
    refused(b, "block");
  }
  {
    ProgramBuilder b;
    const int x = b.Tensor(at::kFloat, {5}), y = b.Tensor(at::kDouble, {5});
    b.Add("autosp.all_reduce_coalesced_", {B::Ts({x, y}), B::S("sum")}, {});
    refused(b, "one type");
  }
  {
    ProgramBuilder b;
    b.Add("autosp.all_gather_coalesced_", {B::Ts({b.Tensor(at::kFloat, {4, 6}, {1, 4})})}, {});
    refused(b, "row-major");
  }
  {
    ProgramBuilder b;
    const int p = b.Tensor(at::kFloat, {4, 6}), g = b.Tensor(at::kFloat, {23}), lr = b.Tensor(at::kDouble, {});
    b.Add("autosp.sgd_shard_", {B::T(p), B::None(), B::T(g), B::None(), B::T(lr), B::F(0)}, {});
    refused(b, "block");
  }
}

}  // namespace
}  // namespace autospc::exec
