// Stands for libautosp_cuda.so: of this build, or with FAKE_BUILD of another. It has one GPU and connects nobody.
#include "runtime/dist/cuda_module.h"

namespace {

using autospc::Result;

Result<std::string> GpuId(int) { return std::string("fake"); }

Result<std::unique_ptr<autospc::Communicator>> Connect(const c10::intrusive_ptr<c10d::Store>&, int, int, int) {
  return autospc::Error{};
}

}  // namespace

extern "C" const autospc::CudaModule* autosp_cuda_module() {
#ifdef FAKE_BUILD
  static const autospc::CudaModule module = {FAKE_BUILD, &GpuId, &Connect};
#else
  static const autospc::CudaModule module = {autospc::CudaModuleBuild(), &GpuId, &Connect};
#endif
  return &module;
}
