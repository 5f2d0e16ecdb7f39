// What libautosp_cuda.so shows the program that loads it.
#include <cuda_runtime_api.h>
#include <unistd.h>

#include <array>
#include <string>

#include "runtime/cuda/nccl.h"
#include "runtime/dist/cuda_module.h"

namespace autospc {
namespace {

// "MACHINE GPU-UUID": the UUID is also that of a MIG slice.
Result<std::string> GpuId(int gpu) {
  cudaDeviceProp properties{};
  if (const cudaError_t error = cudaGetDeviceProperties(&properties, gpu); error != cudaSuccess) {
    (void)cudaGetLastError();
    return Error{Code::kUsage, fmt::format("GPU {} can't be used: {}", gpu, cudaGetErrorString(error)), "",
                 "nvidia-smi tells more; or use --device cpu"};
  }
  std::array<char, 256> machine{};
  gethostname(machine.data(), machine.size() - 1);
  std::string id = fmt::format("{} GPU-", machine.data());
  for (const char byte : properties.uuid.bytes) id += fmt::format("{:02x}", static_cast<unsigned char>(byte));
  return id;
}

}  // namespace
}  // namespace autospc

extern "C" __attribute__((visibility("default"))) const autospc::CudaModule* autosp_cuda_module() {
  static const autospc::CudaModule module = {autospc::CudaModuleBuild(), &autospc::GpuId,
                                             &autospc::MakeNcclCommunicator};
  return &module;
}
