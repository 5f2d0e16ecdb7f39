// Kernels of LibTorch: an instruction as a boxed call, its arguments converted once.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>
#include <string_view>

#include "runtime/exec/call.h"

namespace autospc::exec {

enum class Way : uint8_t {
  kOwn,       // a kernel of our own
  kOut,       // LibTorch's `.out`, which writes into the planned buffers
  kInPlace,   // an op that writes to its operands
  kFallback,  // the functional op in the planned workspace, then a copy
};

struct LibraryKernel {
  Kernel kernel;
  Way way = Way::kFallback;
};

// LibTorch's op of an instruction ("aten.add.Tensor"), nullopt if it has none.
std::optional<c10::OperatorHandle> FindLibraryOp(std::string_view op);

// kUnsupported if LibTorch has no such op; kBadInput if the arguments don't fit its schema, or for an op that no
// compiled program holds since it reaches beyond its operands' memory: it reads files, or gives a tensor another one.
Result<LibraryKernel> MakeLibraryKernel(const Call& call);

}  // namespace autospc::exec
