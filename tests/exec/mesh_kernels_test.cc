// The kernels between placements on a mesh of ranks as threads: each acts in its rank's group along its axis alone.
#include <ATen/ATen.h>

#include <functional>

#include "runtime/base/mesh.h"
#include "tests/exec/programs.h"

namespace autospc::exec {
namespace {

using B = ProgramBuilder;
using program::StorageKind;

at::Tensor Data(at::IntArrayRef sizes) {
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  return at::arange(n, at::kFloat).mul(7).remainder(101).view(sizes).contiguous();
}

// Rows [place * block, …) of x along dim, those past x's end repeating the last one.
at::Tensor ShardOf(const at::Tensor& x, int64_t dim, int64_t block, int64_t place) {
  return x.index_select(dim, at::arange(block).add(place * block).clamp_max(x.size(dim) - 1)).contiguous();
}

// dp by sp; batch 5 and sequence 7 are divided by none of them.
struct MeshCase {
  int dp, sp;
};
class MeshKernelTest : public testing::TestWithParam<MeshCase> {
 protected:
  Mesh mesh() const { return Mesh(GetParam().sp, GetParam().dp); }
  int64_t rows() const { return (5 + mesh().dp - 1) / mesh().dp; }
  int64_t positions() const { return (7 + mesh().sp - 1) / mesh().sp; }
  // [5, 7, …] as rank r holds it.
  at::Tensor Own(const at::Tensor& x, int r) const {
    const at::Tensor by_batch = ShardOf(x, 0, rows(), mesh().Index(Axis::kDp, r));
    return ShardOf(by_batch, 1, positions(), mesh().Index(Axis::kSp, r));
  }

  template <typename InputOf, typename Expected>
  void Expect(const std::string& op, const std::vector<program::ArgT>& rest, InputOf input_of, Expected expected) {
    SCOPED_TRACE(op);
    ProgramBuilder b(mesh().ranks());
    b.program().dp = mesh().dp;
    const int in = b.Like(input_of(0));
    const at::Tensor like = expected(0);
    const int out = b.Tensor(like.scalar_type(), like.sizes().vec(), {}, StorageKind::Activation);
    std::vector<program::ArgT> args = {B::T(in)};
    args.insert(args.end(), rest.begin(), rest.end());
    b.Add(op, args, {out});
    RunRanks(
        b, mesh().ranks(), [&](int r, Executor& e) { e.tensor(in).copy_(input_of(r)); },
        [&](int r, Executor& e) {
          EXPECT_TRUE(at::equal(e.tensor(out), expected(r))) << "rank " << r << "\n" << e.tensor(out) << "\n" << expected(r);
          EXPECT_EQ(e.OutsideBytes(), 0);
        });
  }
};

INSTANTIATE_TEST_SUITE_P(Meshes, MeshKernelTest,
                         testing::Values(MeshCase{1, 2}, MeshCase{2, 1}, MeshCase{2, 2}, MeshCase{2, 3}, MeshCase{3, 2}),
                         [](const auto& info) {
                           return "dp" + std::to_string(info.param.dp) + "_sp" + std::to_string(info.param.sp);
                         });

TEST_P(MeshKernelTest, ConversionsAlongDp) {
  const at::Tensor x = Data({5, 7, 3});
  const auto by_sp = [&](int r) { return ShardOf(x, 1, positions(), mesh().Index(Axis::kSp, r)); };
  const auto own = [&](int r) { return Own(x, r); };
  Expect("autosp.shard", {B::I(0), B::I(rows()), B::B(false), B::S("dp")}, by_sp, own);
  Expect("autosp.all_gather", {B::I(0), B::I(5), B::B(true), B::S("dp")}, own, by_sp);
  const auto marked = [&](int r) {
    at::Tensor t = own(r).clone();
    const int64_t have = std::clamp<int64_t>(5 - mesh().Index(Axis::kDp, r) * rows(), 0, rows());
    t.narrow(0, have, rows() - have).fill_(-9);
    return t;
  };
  Expect("autosp.mask", {B::I(0), B::I(5), B::F(-9), B::S("dp")}, own, marked);
  Expect("autosp.pad_last", {B::I(0), B::I(5), B::S("dp")}, marked, own);
  Expect(
      "autosp.first", {B::S("dp")}, own,
      [&](int r) { return mesh().Index(Axis::kDp, r) == 0 ? own(r) : at::zeros_like(own(r)); });
}

TEST_P(MeshKernelTest, SumsAlongEachAxis) {
  const at::Tensor x = Data({6, 4});
  for (const Axis axis : {Axis::kSp, Axis::kDp, Axis::kWorld}) {
    const auto mine = [&](int r) { return x + 10 * r * r; };
    Expect("autosp.all_reduce", {B::S("sum"), B::S(std::string(Name(axis)))}, mine, [&](int r) {
      at::Tensor sum = at::zeros_like(x);
      for (int other = 0; other < mesh().ranks(); ++other) {
        const bool in_row = mesh().Index(Axis::kDp, other) == mesh().Index(Axis::kDp, r);
        const bool in_column = mesh().Index(Axis::kSp, other) == mesh().Index(Axis::kSp, r);
        if (axis == Axis::kWorld || (axis == Axis::kSp ? in_row : in_column)) sum.add_(mine(other));
      }
      return sum;
    });
  }
}

TEST_P(MeshKernelTest, PositionsAlongDp) {
  ProgramBuilder b(mesh().ranks());
  b.program().dp = mesh().dp;
  const int out = b.Tensor(at::kLong, {rows()}, {}, StorageKind::Activation);
  b.Add("autosp.positions", {B::I(0), B::I(1), B::I(rows()), B::I(5), B::D(at::kLong), B::S("dp")}, {out});
  RunRanks(
      b, mesh().ranks(), [](int, Executor&) {},
      [&](int r, Executor& e) {
        const at::Tensor expected = at::arange(rows()).add(mesh().Index(Axis::kDp, r) * rows()).clamp_max(4);
        EXPECT_TRUE(at::equal(e.tensor(out), expected));
      });
}

// Shards along both axes hold what the whole has there: in dims of their own, flattened to [B*S, …], to [B*h*S] with
// something between, and to [S*B, …].
TEST_P(MeshKernelTest, DropoutIsTheSameOnEveryMesh) {
  const int64_t b = rows(), s = positions();
  struct Layout {
    const char* name;
    std::vector<int64_t> whole, local;         // sizes
    std::vector<int64_t> sp, dp;               // dim, valid, outer, inner
    std::function<at::Tensor(at::Tensor)> to;  // from [B, S, 6]
  };
  const Layout layouts[] = {
      {"apart", {5, 7, 6}, {b, s, 6}, {1, 7, 1, 1}, {0, 5, 1, 1}, [](at::Tensor t) { return t; }},
      {"flat", {35, 6}, {b * s, 6}, {0, 7, b, 1}, {0, 5, 1, s}, [](at::Tensor t) { return t.flatten(0, 1); }},
      {"all flat", {210}, {b * s * 6}, {0, 7, b, 6}, {0, 5, 1, s * 6}, [](at::Tensor t) { return t.flatten(); }},
      {"between", {5 * 2 * 7, 3}, {b * 2 * s, 3}, {0, 7, b * 2, 1}, {0, 5, 1, 2 * s},
       [](at::Tensor t) { return t.view({t.size(0), t.size(1), 2, 3}).transpose(1, 2).flatten(0, 2); }},
      {"time first", {35, 6}, {s * b, 6}, {0, 7, 1, b}, {0, 5, s, 1},
       [](at::Tensor t) { return t.transpose(0, 1).flatten(0, 1); }},
  };
  for (const Layout& layout : layouts) {
    SCOPED_TRACE(layout.name);
    const auto run = [&](const Mesh& on, const std::vector<int64_t>& sizes, std::vector<program::ArgT> lie) {
      std::vector<at::Tensor> results(on.ranks());
      ProgramBuilder builder(on.ranks());
      builder.program().dp = on.dp;
      const int in = builder.Tensor(at::kFloat, sizes), out = builder.Tensor(at::kFloat, sizes, {}, StorageKind::Activation);
      std::vector<program::ArgT> args = {B::T(in), B::F(0.4), B::I(2)};
      args.insert(args.end(), lie.begin(), lie.end());
      builder.Add("autosp.dropout", args, {out});
      RunRanks(
          builder, on.ranks(), [&](int, Executor& e) { e.tensor(in).fill_(1); },
          [&](int r, Executor& e) { results[r] = e.tensor(out).clone(); }, 5);
      return results;
    };
    const at::Tensor whole = run(Mesh(), layout.whole, {B::I(-1), B::I(0), B::I(1), B::I(1)})[0];
    // Which of the whole's elements each rank holds, by their numbers.
    const at::Tensor numbers = layout.to(at::arange(210).view({5, 7, 6}));
    std::vector<at::Tensor> inverse(1, at::empty({210}, at::kLong));
    inverse[0].index_put_({numbers.flatten()}, at::arange(210));
    std::vector<program::ArgT> lie;
    for (const int64_t i : layout.sp) lie.push_back(B::I(i));
    for (const int64_t i : layout.dp) lie.push_back(B::I(i));
    const std::vector<at::Tensor> results = run(mesh(), layout.local, lie);
    for (int r = 0; r < mesh().ranks(); ++r) {
      const at::Tensor own = layout.to(Own(at::arange(210).view({5, 7, 6}), r)).flatten();
      const at::Tensor expected = whole.flatten().index_select(0, inverse[0].index_select(0, own)).view(results[r].sizes());
      EXPECT_TRUE(at::equal(results[r], expected)) << "rank " << r;
    }
    EXPECT_GT(whole.ne(0).sum().item<int64_t>(), 60);
    EXPECT_GT(whole.eq(0).sum().item<int64_t>(), 40);
  }
}

TEST(MeshProgramTest, WrongMeshesAndAxesAreRefused) {
  const auto refused = [](int ranks, int dp, const char* axis) {
    ProgramBuilder b(ranks);
    b.program().dp = dp;
    const int x = b.Tensor(at::kFloat, {3}), y = b.Tensor(at::kFloat, {3}, {}, StorageKind::Activation);
    b.Add("autosp.all_reduce", {B::T(x), B::S("sum"), B::S(axis)}, {y});
    const auto communicators = MakeInProcessCommunicators(ranks);
    const auto made = b.Build(0, communicators[0].get());
    return made.ok() ? std::string() : made.error().what;
  };
  EXPECT_EQ(refused(4, 2, "dp"), "");
  EXPECT_NE(refused(4, 3, "dp").find("4 ranks do not make a mesh with dp 3"), std::string::npos);
  EXPECT_NE(refused(4, 0, "dp").find("4 ranks do not make a mesh with dp 0"), std::string::npos);
  EXPECT_NE(refused(4, 2, "tp").find("its last argument is no axis of the mesh"), std::string::npos);
}

TEST(MeshProgramTest, DropoutThatDoesNotFitIsRefused) {
  ProgramBuilder b;
  const int x = b.Tensor(at::kFloat, {7}), y = b.Tensor(at::kFloat, {7}, {}, StorageKind::Activation);
  b.Add("autosp.dropout", {B::T(x), B::F(0.5), B::I(0), B::I(0), B::I(4), B::I(2), B::I(1)}, {y});
  const auto made = b.Build();
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().what.find("dropout does not fit"), std::string::npos) << made.error().what;
}

}  // namespace
}  // namespace autospc::exec
