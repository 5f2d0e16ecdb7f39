// The mesh of ranks: sizes, places, groups, and what --mesh takes.
#include "runtime/base/mesh.h"

#include <gtest/gtest.h>

namespace autospc {
namespace {

TEST(MeshTest, NeighboursShareASequence) {
  const Mesh mesh(4, 2);
  EXPECT_EQ(mesh.ranks(), 8);
  EXPECT_EQ(mesh.Size(Axis::kSp), 4);
  EXPECT_EQ(mesh.Size(Axis::kDp), 2);
  EXPECT_EQ(mesh.Size(Axis::kWorld), 8);
  for (int rank = 0; rank < 8; ++rank) {
    EXPECT_EQ(mesh.Index(Axis::kDp, rank), rank / 4);
    EXPECT_EQ(mesh.Index(Axis::kSp, rank), rank % 4);
    EXPECT_EQ(mesh.Index(Axis::kWorld, rank), rank);
  }
  EXPECT_EQ(Mesh(3), Mesh(3, 1));
}

TEST(MeshTest, TheWorldCoversBothAxes) {
  EXPECT_TRUE(Covers(Axis::kWorld, Axis::kSp));
  EXPECT_TRUE(Covers(Axis::kWorld, Axis::kDp));
  EXPECT_TRUE(Covers(Axis::kDp, Axis::kDp));
  EXPECT_FALSE(Covers(Axis::kDp, Axis::kSp));
  EXPECT_FALSE(Covers(Axis::kSp, Axis::kWorld));
}

TEST(MeshTest, NamesReadBack) {
  for (const Axis axis : {Axis::kSp, Axis::kDp, Axis::kWorld}) EXPECT_EQ(ParseAxis(Name(axis)), axis);
  EXPECT_EQ(ParseAxis("tp"), std::nullopt);
}

TEST(MeshTest, ParsesWhatTheFlagTakes) {
  const auto parse = [](std::string_view text) {
    const Result<Mesh> mesh = ParseMesh(text);
    return mesh.ok() ? fmt::format("{}x{}", mesh->dp, mesh->sp) : mesh.error().code == Code::kUsage ? "usage" : "?";
  };
  EXPECT_EQ(parse("dp=2,sp=4"), "2x4");
  EXPECT_EQ(parse("sp=4,dp=2"), "2x4");
  EXPECT_EQ(parse("dp=3"), "3x1");
  EXPECT_EQ(parse("sp=3"), "1x3");
  for (const char* wrong : {"", "2,4", "dp", "dp=", "dp=0", "dp=-1", "dp=2x", "tp=2", "dp=2,dp=2", "dp=2,", "dp=65537", "dp=65536,sp=2"}) {
    EXPECT_EQ(parse(wrong), "usage") << wrong;
  }
}

TEST(MeshTest, TheAxisIsTheLastArgument) {
  EXPECT_EQ(AxisArgument("autosp.vary"), 1u);
  EXPECT_EQ(AxisArgument("autosp.all_to_all"), 6u);
  EXPECT_EQ(AxisArgument("autosp.attention"), std::nullopt);
  EXPECT_EQ(AxisArgument("aten.add.Tensor"), std::nullopt);
}

}  // namespace
}  // namespace autospc
