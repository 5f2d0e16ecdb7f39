#include "compiler/import/check_calls.h"

#include <gtest/gtest.h>

#include "passes/ir/parser.h"
#include "passes/ir/verifier.h"

namespace autospc::import {
namespace {

using Lines = std::vector<std::string>;

Lines Wrong(const std::string& line) {
  const auto graph = ir::Parse("graph @g { input %x : f32[2, 3]{3, 1} user \"x\" input %i : i64[2] user \"i\" " + line +
                               " output user %y \"y\" }");
  EXPECT_TRUE(graph.ok()) << graph.error().Format();
  if (!graph.ok()) return {};
  EXPECT_EQ(ir::Verify(*graph), Lines());
  return WrongCalls(*graph);
}

TEST(WrongCalls, AreThoseThatTheSchemaForbids) {
  EXPECT_EQ(Wrong("%y = aten.add.Tensor(%x, %x, 1) : f32[2, 3]"), Lines());
  EXPECT_EQ(Wrong("%y = aten.add.Tensor(%x, 0.5, 1) : f32[2, 3]"), Lines());  // a number wrapped as a tensor
  EXPECT_EQ(Wrong("%y = aten.add.Tensor(%x, %x) : f32[2, 3]"), Lines{"aten.add.Tensor of %y: no argument \"alpha\""});
  EXPECT_EQ(Wrong("%y = aten.add.Tensor(%x, %x, 1, 1) : f32[2, 3]"), Lines{"aten.add.Tensor of %y: 4 arguments of 3"});
  EXPECT_EQ(Wrong("%y = aten.add.Tensor(%x, none, 1) : f32[2, 3] !src \"m.py:3\""),
            Lines{"aten.add.Tensor of %y (m.py:3): argument \"other\" is of another kind"});
  EXPECT_EQ(Wrong("%y = aten.adds.Tensor(%x, %x, 1) : f32[2, 3]"),
            Lines{"aten.adds.Tensor of %y: LibTorch has no such op"});
  EXPECT_EQ(Wrong("%y, %z = aten.exp.default(%x) : f32[2, 3], f32[2, 3]"),
            Lines{"aten.exp.default of %y: 2 results of 1"});
  EXPECT_EQ(Wrong("%y, %z = aten.split.Tensor(%x, 1, 0) : f32[1, 3], f32[1, 3]"), Lines());  // a list of any length
  EXPECT_EQ(Wrong("%y = aten.cat.default([%x, none], 0) : f32[4, 3]"),
            Lines{"aten.cat.default of %y: argument \"tensors\" is of another kind"});
  EXPECT_EQ(Wrong("%y = aten.index.Tensor(%x, [none, %i]) : f32[2, 2]"), Lines());
  EXPECT_EQ(Wrong("%y = autosp.vary(%x) : f32[2, 3]"), Lines());  // ir::Verify's
}

}  // namespace
}  // namespace autospc::import
