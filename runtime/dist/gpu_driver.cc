#include "runtime/dist/gpu_driver.h"

#include <dlfcn.h>

#include <map>

namespace autospc {
namespace {

constexpr char kRemedy[] = "run on a machine with an NVIDIA GPU and its driver, or use --device cpu";

// Of the driver's interface (cuda.h), which is C and keeps its numbers.
using InitFunction = int (*)(unsigned);
using CountFunction = int (*)(int*);
using NameFunction = int (*)(int, const char**);
constexpr int kNoDevice = 100;  // CUDA_ERROR_NO_DEVICE

}  // namespace

Result<int> CountGpus(const std::string& library) {
  // It stays loaded: the driver does not support being unloaded.
  void* const driver = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (driver == nullptr) {
    const char* reason = dlerror();
    return Error{Code::kUsage, "this machine has no NVIDIA driver", reason != nullptr ? reason : library, kRemedy};
  }
  const auto init = reinterpret_cast<InitFunction>(dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<CountFunction>(dlsym(driver, "cuDeviceGetCount"));
  const auto name = reinterpret_cast<NameFunction>(dlsym(driver, "cuGetErrorName"));
  if (init == nullptr || count == nullptr) {
    return Error{Code::kUsage, "this is no NVIDIA driver", library, kRemedy};
  }
  int gpus = 0;
  int error = init(0);
  if (error == 0) error = count(&gpus);
  if (error == kNoDevice || (error == 0 && gpus == 0)) {
    return Error{Code::kUsage, "the NVIDIA driver shows this process no GPU", library,
                 "does CUDA_VISIBLE_DEVICES hide it, or the container? Or use --device cpu"};
  }
  if (error != 0) {
    const char* text = nullptr;
    if (name == nullptr || name(error, &text) != 0 || text == nullptr) text = "an unknown error";
    return Error{
        Code::kUsage, fmt::format("the NVIDIA driver does not start: {} ({})", text, error), library,
        "nvidia-smi tells more; after an update of the driver the machine wants a restart. Or use --device cpu"};
  }
  return gpus;
}

Result<int> GpuOfRank(int gpus, int local_rank) {
  if (local_rank < gpus) return local_rank;
  if (gpus == 1) return 0;
  return Error{Code::kUsage, fmt::format("the rank with LOCAL_RANK {} sees {} GPUs", local_rank, gpus), "",
               "start as many ranks on a machine as it has GPUs, and show each of them all GPUs or its own"};
}

Status CheckGpusDiffer(const std::vector<std::string>& ids) {
  std::map<std::string, size_t> ranks;
  for (size_t r = 0; r < ids.size(); ++r) {
    const auto [at, fresh] = ranks.emplace(ids[r], r);
    if (fresh) continue;
    return Error{Code::kUsage, fmt::format("ranks {} and {} share a GPU, which NCCL does not support", at->second, r),
                 ids[r], "start one rank a GPU; a launcher that shows each rank its own GPU must show different ones"};
  }
  return Ok();
}

}  // namespace autospc
