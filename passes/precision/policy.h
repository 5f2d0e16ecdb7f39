// In which precision an op of a mixed-precision step computes. Where autocast keeps float32 so do we
// (tests/precision/policy_test.cc holds the table to LibTorch's lists); in addition pointwise ops and copies of
// bfloat16 values stay in bfloat16, as in a model that was cast as a whole.
#pragma once

#include <cstdint>
#include <string_view>

namespace autospc::precision {

enum class Policy : uint8_t {
  kFloat32,    // float32, and so is its result: reductions, losses, whatever has no entry
  kPrecise,    // computed in float32, its result is an activation as its operand is: exp, rsqrt, softmax
  kLower,      // bfloat16: products of matrices, convolutions, attention, lookups
  kPointwise,  // as its operands are
  kMovement,   // as its operand is: views, copies, selections
  kNorm,       // layer norm: the operand as it is, weight, bias and statistics in float32
  kShapeOnly,  // reads nothing but the operand's shape: zeros_like
};

// By the op's name, "aten.add.Tensor".
Policy PolicyOf(std::string_view op);

// Of a kPointwise op: whether a table (cosines, a mask, a bias by position) may be rounded before it meets a bfloat16
// operand. Where the two are added a table may hold what bfloat16 can't (a mask's finite minimum becomes -inf).
bool MayRoundTable(std::string_view op);

}  // namespace autospc::precision
