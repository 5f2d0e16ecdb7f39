// Which values share storage with which, and how a write to one reaches the other.
#pragma once

#include <optional>
#include <vector>

#include "passes/canonical/match.h"

namespace autospc::canonical {

// Whether a node's result shares its first operand's storage, `in`.
enum class Sharing : uint8_t {
  kNone,     // a new value
  kView,     // always
  kUnknown,  // a view or a copy by the operand's strides (reshape, contiguous), which are not recorded
};
Sharing SharingOf(const Node& node, const Value& in, const Value& result);

// The base of a view after the view has been overwritten with `written`: emitted before `before`. `base` is the
// operand's value now. kNoValue for views that have no inverse here (expand, strided views of other kinds).
ValueId EmitScatter(Graph& graph, const Node& view, const Value& result, ValueId base, ValueId written, NodeId before,
                    const Node& like);

// "aten.add_.Tensor" -> "aten.add.Tensor", "aten.__iand__.Tensor" -> "aten.__and__.Tensor"; nothing for ops that do
// not write in place, or do more than that (resize_, set_, random draws).
std::optional<std::string> OutOfPlace(std::string_view op);
// Whether the op writes to its first operand by its name.
bool WritesInPlace(std::string_view op);

}  // namespace autospc::canonical
