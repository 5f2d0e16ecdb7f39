// What of a GPU can be known before LibTorch's CUDA libraries are loaded: half a gigabyte that a machine without a
// GPU need not have.
#pragma once

#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/dist/communicator.h"

namespace autospc {

inline constexpr char kGpuDriverLibrary[] = "libcuda.so.1";  // NVIDIA's driver brings it

// How many GPUs the driver shows this process (CUDA_VISIBLE_DEVICES counts). kUsage: no driver, or it fails, or it
// shows none.
Result<int> CountGpus(const std::string& library = kGpuDriverLibrary);

// The GPU of a rank, from 0: its local rank; the only one where a launcher shows each rank its own. kUsage if there
// is none for it.
Result<int> GpuOfRank(int gpus, int local_rank);

// `ids` [P] by rank, of machine and GPU. kUsage names two ranks that share one, which NCCL refuses.
Status CheckGpusDiffer(const std::vector<std::string>& ids);

}  // namespace autospc
