// The text form of a graph: lossless, deterministic, one node a line. passes/ir/parser.h reads it.
//
//   graph @nanogpt {
//     symbol s38 [2, 4096]
//     input %wte : f32[256, 64]{64, 1} parameter "transformer.wte.weight" grad
//     input %ids : i64[2, s38]{s38, 1} user "input_ids" seq_dim 1
//     %x = aten.embedding.default(%wte, %ids, -1, false, false) : f32[2, s38, 64] !src "gpt.py:12" !mod "wte"
//     %a, %b = aten.split.Tensor(%x, 32, 2) : f32[2, s38, 32] base %x, f32[2, s38, 32] base %x offset 128
//     autosp.all_reduce_(%a, "sum") !phase step
//     output user %b "out"
//   }
//
// A type is dtype[sizes]{strides} placement base offset; what is unknown or default is left out. Arguments:
//   none  true  7  s38  add(s38, -1)  1.0  -inf  nan  "text"  %x  dtype(f32)  layout(strided)  device(cpu)
//   memory_format(contiguous)  [1, s38]  [1.0]  [true]  [%x, none]  and, where empty, []  floats[]  bools[]  values[]
// Names outside the plain alphabet are quoted: %"a b". A `#` starts a comment that ends with the line.
#pragma once

#include <string>

#include "passes/ir/graph.h"

namespace autospc::ir {

struct PrintOptions {
  bool origin = true;   // !src, !mod
  bool strides = true;  // {64, 1}
};

// With the default options Parse(Print(graph)) is the graph again, but for value and node ids, provided that
// Verify(graph) is empty. A dangling id prints as %?17, which does not parse, so that a broken graph can be shown.
std::string Print(const Graph& graph, const PrintOptions& options = {});
// One node, without a line break: for messages and reports.
std::string Print(const Graph& graph, const Node& node, const PrintOptions& options = {});

// The words that stand for the enumerators, in their order: shared by printer and parser.
std::string_view Name(InputKind kind);
std::string_view Name(OutputKind kind);
std::string_view Name(Phase phase);

}  // namespace autospc::ir
