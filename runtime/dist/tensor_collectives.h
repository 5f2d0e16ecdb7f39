// Collectives on tensors: the communicator's on their memory, after checks that the tensors fit each other and the
// communicator. kBadInput: a tensor lies on another device than communicator.device(), is not contiguous, has another
// dtype than its counterpart or a number of elements that does not fit; and what communicator.h names.
#pragma once

#include <ATen/core/Tensor.h>

#include "runtime/dist/communicator.h"

namespace autospc {

// out [P * n elements]: rank r's `in` [n] is block r. `in` may be this rank's block of out.
Status AllGather(Communicator& communicator, const at::Tensor& in, const at::Tensor& out);
// in and out [P * n elements]: block r of out is block `rank` of rank r's `in`.
Status AllToAll(Communicator& communicator, const at::Tensor& in, const at::Tensor& out);
// in [P * n elements], out [n]: block `rank` combined over ranks. `staging`: bytes, as many as `in` has.
Status ReduceScatter(Communicator& communicator, const at::Tensor& in, const at::Tensor& out, ReduceOp op,
                     const at::Tensor& staging);
// x combined over ranks, in place. Its elements may lie in any order without gaps, the same on every rank.
// `staging`: bytes, at least communicator.MinStaging.
Status AllReduce(Communicator& communicator, const at::Tensor& x, ReduceOp op, const at::Tensor& staging);
Status Broadcast(Communicator& communicator, const at::Tensor& x, int root);

}  // namespace autospc
