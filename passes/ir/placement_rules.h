// The tables of the placement type system: which ops convert, which are linear, which reduce.
// A newcomer's op needs a line here only if it takes a partial operand or adds up over a sharded dim.
#pragma once

#include <cstdint>
#include <string_view>

#include "passes/ir/graph.h"

namespace autospc::ir {

// Sets of placement kinds.
using KindSet = uint8_t;
inline constexpr KindSet kR = 1, kV = 2, kP = 4, kS = 8;
KindSet Bit(PlacementKind kind);         // 0 for kNone
std::string KindSetText(KindSet kinds);  // "R or V"

// An op that changes the kind of its first operand. Two rows with one op differ by its `vary` argument.
struct Conversion {
  std::string_view op;
  KindSet from;
  KindSet to;
};
// The row for a node, nullptr if its op is no conversion along `axis`: a conversion along another axis is an ordinary op.
const Conversion* FindConversion(const Node& node, Axis axis);

// How an op is linear in its tensor arguments.
struct Linearity {
  enum class Mode : uint8_t {
    kNone,    // it is not: no operand may be partial
    kOne,     // in any one of `positions`, the other operands fixed: x * w
    kAll,     // in all of `positions` together: x + y, cat([x, y])
    kAffine,  // in argument 0 with any one of arguments 1 and 2: addmm(bias, x, w)
  };
  Mode mode = Mode::kNone;
  uint32_t positions = 0;  // a bit for each argument; a list argument counts as one
};
// Looks at argument values too: masked_fill and pad are linear only where they fill with zero.
Linearity LinearityOf(const Node& node);

// Ops that may add up over a sharded dim: S operands, P result.
bool MayReduce(std::string_view op);
// Ops that read sizes and types of their operands alone, or have none: their result is anything but partial...
bool IsFill(std::string_view op);
// ... and what fills with zeros may be partial too.
bool IsZeroFill(const Node& node);
// Ops that repeat a value along a dim: the adjoint of a reduction, so V operands may have an S result.
bool IsBroadcast(std::string_view op);
// Ops whose result has no derivative.
bool StopsGradient(std::string_view op);

}  // namespace autospc::ir
