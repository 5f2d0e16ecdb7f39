// Reads a mask's subgraph: what predicate over (q, k) it computes, without computing it.
//
// Top-down: the element of the mask at [b, h, q, k] is followed back through views (which only change the
// index), comparisons, arithmetic and constants to aranges, constant buffers, whose data is read and fitted,
// and per-position inputs, which become vector operands. Cost is that of the subgraph, not of S^2, buffers apart.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "passes/canonical/constants.h"
#include "passes/canonical/element.h"
#include "passes/canonical/match.h"

namespace autospc::canonical {

struct ScoreShape {
  int64_t batch = 1, heads = 1, q = 1, k = 1;
  auto operator<=>(const ScoreShape&) const = default;
};

using Index = std::vector<Linear>;  // one expression for each dim

class Interpreter {
 public:
  // The graph and the constants outlive this.
  Interpreter(Graph& graph, Constants& constants, ScoreShape shape);

  // A mask that broadcasts to [batch, heads, q, k]: where its element is nonzero (true).
  std::optional<Predicate> ReadBoolean(ValueId mask);
  // The same for an additive mask or any other: its elements as constants.
  std::optional<std::vector<Case>> ReadCases(ValueId mask);

  // Replaces the comparisons of a vector with itself that and-ed segments decide; nothing where one is left.
  std::optional<Predicate> Finish(const Predicate& predicate);
  // Emits what the vectors of `predicate` need, right after their sources, and renumbers them from 0 on.
  Predicate Materialise(const Predicate& predicate, std::vector<ValueId>* vectors);

  // The element of any value at an index, in this interpretation's atoms.
  Element At(ValueId v, const Index& index);
  Atoms& atoms() { return algebra_.atoms(); }

 private:
  Element Compute(const Node& node, const Value& v, const Index& index);
  Element Elementwise(const Node& node, const Value& v, const Index& index);
  Element Created(const Node& node, const Value& v, const Index& index);
  Element Joined(const Node& node, const Value& v, const Index& index);   // cat, stack, scatters, pad
  Element Scanned(const Node& node, const Value& v, const Index& index);  // cumsum, diff
  Element Indexed(const Node& node, const Value& v, const Index& index);  // index, gather, index_select
  Element Arithmetic(std::string_view name, const Element& a, const Element& b, const Node& node, DType type);
  Element Divided(const Element& a, const Element& b, std::string_view rounding);
  Element Cast(const Element& e, DType from, DType to);

  // Operand i of a broadcasting op whose result has index `index`; a number stands for itself.
  Element OperandAt(const Node& node, size_t i, const Index& index);
  Index Broadcast(ValueId v, const Index& index) const;
  // v as a vector operand at the query or key position; unknown where its shape or index does not fit.
  Element Leaf(ValueId v, const Index& index);
  Element FromConstant(ValueId v, const Index& index);
  bool Fits(const Element& e, DType dtype);  // no wrapping in a narrow integer type
  Index TopIndex(ValueId mask) const;
  bool SegmentsOf(int segments, int positions) const;
  ValueId EmitVector(const VectorSpec& spec);

  Graph& graph_;
  Constants& constants_;
  ScoreShape shape_;
  ElementAlgebra algebra_;
  std::map<std::pair<ValueId, Index>, Element> memo_;
  std::map<int, ValueId> emitted_;  // by index into the algebra's vectors
  int budget_;                      // elements still to compute: bounds the time on hostile graphs
  int depth_ = 0;
};

// Where the result element of a view op lies in its operand: the operand and its index. Nothing for ops that
// are no views. Used for reading only: copies (contiguous, casts of the same value) count.
std::optional<std::pair<ValueId, Index>> MapViewIndex(const Graph& graph, const Node& node, const Value& result,
                                                      const Index& index, Atoms& atoms);

}  // namespace autospc::canonical
