// Kernels of LibTorch: an instruction as a boxed call, its arguments converted once.
#pragma once

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

// kUnsupported if LibTorch has no such op; kBadInput if the arguments don't fit its schema.
Result<LibraryKernel> MakeLibraryKernel(const Call& call);

}  // namespace autospc::exec
