// Problems from graphs in text form.
#pragma once

#include <gtest/gtest.h>

#include <string_view>
#include <utility>

#include "passes/ir/parser.h"
#include "passes/ir/verifier.h"
#include "passes/recompute/problem.h"
#include "tests/recompute/random_joint.h"

namespace autospc::recompute::testing {

inline ir::Graph ParseText(std::string_view text) {
  Result<ir::Graph> graph = ir::Parse(text);
  EXPECT_TRUE(graph.ok()) << (graph.ok() ? "" : graph.error().Format());
  EXPECT_TRUE(ir::Verify(*graph).empty()) << ir::Verify(*graph)[0];
  return std::move(*graph);
}

inline std::pair<ir::Graph, Problem> DescribeText(std::string_view text) {
  ir::Graph graph = ParseText(text);
  Problem problem = Describe(graph, Traits, Cost);
  return {std::move(graph), std::move(problem)};
}

}  // namespace autospc::recompute::testing
