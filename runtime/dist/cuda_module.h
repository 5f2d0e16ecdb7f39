// libautosp_cuda.so: all that needs LibTorch's CUDA libraries and NCCL, loaded for --device cuda alone, so that
// autosp-run itself links neither. runtime/cuda is its source.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <memory>
#include <string>

#include "runtime/base/result.h"
#include "runtime/dist/communicator.h"

namespace c10d {
class Store;
}

namespace autospc {

// What the module offers. Lives as long as the process.
struct CudaModule {
  const char* build;  // CudaModuleBuild() where it was compiled: C++ crosses the border, so both must agree
  // Names a GPU (from 0) and its machine, to all ranks the same.
  Result<std::string> (*gpu_id)(int gpu);
  // NCCL among the ranks, which meet in `store`; keys of its own may not be in use there. kUsage: the driver is too
  // old for these libraries. kPeerFailed: a rank did not come.
  Result<std::unique_ptr<Communicator>> (*connect)(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                   int gpu);
};

inline constexpr char kCudaModuleFile[] = "libautosp_cuda.so";
inline constexpr char kCudaModuleSymbol[] = "autosp_cuda_module";  // const CudaModule*(), extern "C"

// Version, LibTorch and compiler.
const char* CudaModuleBuild();

// Its path: in ../lib of the program's folder, or in that folder. kUsage: it was not built.
Result<std::string> FindCudaModule();
Result<std::string> FindCudaModule(const std::string& program_folder);

// Loads it, once and for all. kUsage: a library that it needs is missing (named, with the remedy), or it is of
// another build.
Result<const CudaModule*> LoadCudaModule(const std::string& path);

}  // namespace autospc
