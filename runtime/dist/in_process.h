// Ranks as threads of one process: for tests, and for several ranks on one GPU.
#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <optional>
#include <vector>

#include "runtime/dist/communicator.h"

namespace autospc {

// The communicators of `size` ranks that meet in this process; each is used by one thread. After Abort() of
// any of them every waiting and later call returns kInterrupted. With a device, buffers lie in its memory (all
// ranks use its default stream), and copies and sums are LibTorch's kernels, as with NCCL.
std::vector<std::unique_ptr<Communicator>> MakeInProcessCommunicators(int size, std::optional<c10::Device> device = {});

}  // namespace autospc
