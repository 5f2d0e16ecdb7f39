// In a file of its own, because the module compiles it too.
#include <torch/headeronly/version.h>

#include "runtime/dist/cuda_module.h"

namespace autospc {

const char* CudaModuleBuild() {
  return "autospc " AUTOSPC_VERSION ", LibTorch " TORCH_VERSION ", compiler " __VERSION__;
}

}  // namespace autospc
