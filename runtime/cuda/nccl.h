// Ranks as processes with a GPU each: c10d's NCCL backend.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <memory>

#include "runtime/dist/communicator.h"

namespace c10d {
class Store;
}

namespace autospc {

// Connects this rank and its GPU (from 0) with all others through `store`, whose keys are this group's alone.
// NCCL moves the bytes; sums are added by LibTorch's kernels in the order of ranks, as communicator.h promises:
// NCCL's own would round 16-bit sums at each hop, drop a NaN from a maximum and depend on the network's shape.
//
// kUsage: no GPU, or a driver too old for these libraries. kPeerFailed: a rank did not come, or NCCL could not
// connect; later, that NCCL found a peer gone (it may not notice one that dies on the same machine: the launcher
// ends such a job, or Abort() does).
Result<std::unique_ptr<Communicator>> MakeNcclCommunicator(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                                           int size, int gpu);

}  // namespace autospc
