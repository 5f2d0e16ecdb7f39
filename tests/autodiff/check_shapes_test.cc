#include "compiler/autodiff/check_shapes.h"

#include <gtest/gtest.h>

#include "passes/ir/parser.h"

namespace autospc::autodiff {
namespace {

// What is said of a graph with this line, "" where nothing is.
std::string Said(const std::string& line, Refused refused = Refused::kAnError) {
  const auto graph = ir::Parse(
      "graph @g { symbol s [2, 9] input %x : f32[2, 3]{3, 1} user \"x\" input %w : f32[4, 3]{3, 1} user \"w\" "
      "input %d : f32[s, 3] user \"d\" " +
      line + " output user %y \"y\" }");
  EXPECT_TRUE(graph.ok()) << graph.error().Format();
  const Status status = graph.ok() ? CheckShapes(*graph, refused) : Ok();
  if (status.ok()) return "";
  EXPECT_EQ(status.error().code, Code::kBadInput);
  return status.error().what;
}

TEST(CheckShapes, HoldsWhatIsRecordedToWhatLibTorchMakes) {
  EXPECT_EQ(Said("%y = aten.linear.default(%x, %w, none) : f32[2, 4]"), "");
  EXPECT_EQ(Said("%y = aten.linear.default(%x, %w, none) : f32[2, 2, 2]"),
            "aten.linear.default: LibTorch makes [2, 4], the graph says [2, 2, 2]");
  EXPECT_EQ(Said("%y = aten.sum.dim_IntList(%x, [1], true, none) : f32[2]"),
            "aten.sum.dim_IntList: LibTorch makes [2, 1], the graph says [2]");
  EXPECT_EQ(Said("%y, %z = aten.split.Tensor(%x, 2, 1) : f32[2, 2], f32[2, 1]"), "");
  EXPECT_EQ(Said("%y, %z, %u = aten.split.Tensor(%x, 2, 1) : f32[2, 2], f32[2, 1], f32[2, 1]"),
            "aten.split.Tensor: LibTorch makes 2 results, the graph has 3");
  EXPECT_EQ(Said("%y, %z = aten.split.Tensor(%x, 2, 1) : f32[2, 2], f32[2, 7]"), "");  // nobody reads it
  EXPECT_EQ(Said("%y = autosp.shard(%x, 0, 1, false) : f32[1, 3]"), "");
  EXPECT_EQ(Said("%y = autosp.shard(%x, 0, 1, false) : f32[2, 3]"),
            "autosp.shard: LibTorch makes [1, 3], the graph says [2, 3]");
}

// Factories make nothing: a size beyond any memory is only a size.
TEST(CheckShapes, TakesNoMemory) {
  EXPECT_EQ(
      Said("%y = aten.zeros.default([1048576, 1048576], dtype(f32), none, device(cpu), none) : f32[1048576, 1048576]"),
      "");
}

TEST(CheckShapes, ACallThatLibTorchRefuses) {
  const std::string line = "%y = aten.mm.default(%x, %w) : f32[2, 3]";
  EXPECT_NE(Said(line).find("aten.mm.default: "), std::string::npos);
  EXPECT_EQ(Said(line, Refused::kPassedOver), "");
  EXPECT_EQ(Said("%y = aten.item.default(%x) : f32[]", Refused::kPassedOver), "");
}

TEST(CheckShapes, SizesWithoutValueArePassedOver) { EXPECT_EQ(Said("%y = aten.exp.default(%d) : f32[3, 3]"), ""); }

TEST(CheckShapes, OpsInPlace) {
  EXPECT_EQ(Said("aten.relu_.default(%x) %y = aten.exp.default(%x) : f32[2, 3]"), "");
  EXPECT_EQ(Said("%y = aten.relu_.default(%x) : f32[2, 3]"), "");
}

}  // namespace
}  // namespace autospc::autodiff
