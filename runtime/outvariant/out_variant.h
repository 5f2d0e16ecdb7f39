// Which ops of LibTorch can write into a buffer that the caller gives. One answer for the compiler, which
// plans the buffers, and the runtime, which runs the ops.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace autospc {

// The overload of the same base name that takes `op`'s arguments and one output tensor more for each
// result, and has a kernel of its own on the CPU ("aten.add.Tensor" -> "aten.add.out"). None where LibTorch
// has no such overload, or only the generated composite one, which runs the functional op into fresh memory
// and copies. Names are written as in the IR, "namespace.base.overload" ("default" for the unnamed one).
std::optional<std::string> OutVariant(std::string_view op);

// "aten.add.Tensor" -> {"aten::add", "Tensor"}; "autosp.mask" -> {"autosp::mask", ""}.
std::pair<std::string, std::string> DispatcherName(std::string_view op);

}  // namespace autospc
