// What of its inputs a rank's program reads: shards where it takes nothing else, else all of it.
#include "runtime/train/slices.h"

#include <gtest/gtest.h>

#include <tuple>

#include "tests/exec/programs.h"

namespace autospc::train {
namespace {

using exec::ProgramBuilder;
using B = ProgramBuilder;

// ids [4, 10] and labels [4, 10] on a mesh.
struct Inputs {
  ProgramBuilder b;
  int ids, labels;
  Inputs(int ranks, int dp) : b(ranks) {
    b.program().dp = dp;
    ids = b.Tensor(at::kLong, {4, 10});
    labels = b.Tensor(at::kLong, {4, 10});
    for (const auto& [name, tensor] : {std::pair<std::string, int>{"ids", ids}, {"labels", labels}}) {
      auto input = std::make_unique<program::InputT>();
      input->name = name;
      input->tensor = tensor;
      input->seq_dim = 1;
      b.program().inputs.push_back(std::move(input));
    }
  }
  void Shard(int tensor, int dim, int64_t block, const std::string& axis) {
    std::vector<int64_t> sizes = {4, 10};
    sizes[dim] = block;
    std::vector<program::ArgT> args = {B::T(tensor), B::I(dim), B::I(block), B::B(false)};
    if (!axis.empty()) args.push_back(B::S(axis));
    b.Add("autosp.shard", args, {b.Tensor(at::kLong, sizes, {}, program::StorageKind::Activation)});
  }
  std::tuple<int64_t, int64_t, int64_t, int64_t> Of(int input, int rank) {
    const data::Slice s = SlicesOf(b.program(), rank)[input];
    return {s.row_begin, s.row_end, s.begin, s.end};
  }
};

const std::tuple<int64_t, int64_t, int64_t, int64_t> kWhole = {0, INT64_MAX, 0, INT64_MAX};

TEST(SlicesTest, ShardsOfTheSequence) {
  Inputs in(4, 1);
  in.Shard(in.ids, 1, 3, "");
  EXPECT_EQ(in.Of(0, 0), std::tuple(0, 4, 0, 3));
  EXPECT_EQ(in.Of(0, 2), std::tuple(0, 4, 6, 9));
  EXPECT_EQ(in.Of(0, 3), std::tuple(0, 4, 9, 10));
  EXPECT_EQ(in.Of(1, 0), kWhole);  // nothing is known to read it
  Inputs padded(4, 1);             // blocks of 4: the last rank has padding alone, which repeats the last position
  padded.Shard(padded.ids, 1, 4, "sp");
  EXPECT_EQ(padded.Of(0, 2), std::tuple(0, 4, 8, 10));
  EXPECT_EQ(padded.Of(0, 3), std::tuple(0, 4, 9, 10));
}

TEST(SlicesTest, BothAxesOfAMesh) {
  Inputs in(4, 2);  // ranks 0, 1 share the first half of the batch
  in.Shard(in.ids, 0, 2, "dp");
  in.Shard(in.labels, 1, 5, "sp");
  EXPECT_EQ(in.Of(0, 1), std::tuple(0, 2, 0, 10));
  EXPECT_EQ(in.Of(0, 2), std::tuple(2, 4, 0, 10));
  EXPECT_EQ(in.Of(1, 3), std::tuple(0, 4, 5, 10));
}

TEST(SlicesTest, WholeWhereAnythingElseReadsIt) {
  Inputs twice(2, 1);
  twice.Shard(twice.ids, 1, 5, "");
  twice.b.Add("aten.clone.default", {B::T(twice.ids), B::None()},
              {twice.b.Tensor(at::kLong, {4, 10}, {}, program::StorageKind::Activation)});
  EXPECT_EQ(twice.Of(0, 1), kWhole);
  Inputs world(2, 1);
  world.Shard(world.ids, 1, 5, "world");
  EXPECT_EQ(world.Of(0, 1), kWhole);
  Inputs given(2, 1);
  given.Shard(given.ids, 1, 5, "");
  given.b.Output(program::OutputKind::User, "ids", given.ids, -1);
  EXPECT_EQ(given.Of(0, 1), kWhole);
}

}  // namespace
}  // namespace autospc::train
