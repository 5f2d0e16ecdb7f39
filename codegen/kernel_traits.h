// What the kernel table (runtime/package/kernels.h) says of a graph's node, as the memory planner asks it.
#pragma once

#include <functional>
#include <string>

#include "passes/memory/op_traits.h"
#include "runtime/package/kernels.h"

namespace autospc::codegen {

// Whether LibTorch has an `.out` overload of this op that writes where it is told (runtime/outvariant).
using HasOutFn = std::function<bool(const std::string& op)>;

TensorMeta MetaOf(const ir::Value& value);

// Of the kernels that run on `device`, "cpu" or "cuda" (runtime/exec/call.h, KernelSet). Answers of `has_out` are asked once
// per op and kept.
memory::OpTraitsFn KernelTraits(const Mesh& mesh, HasOutFn has_out, const std::string& device = "cpu");

}  // namespace autospc::codegen
