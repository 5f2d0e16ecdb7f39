// What both sets of kernels ask of an instruction before it runs, once, when the program is loaded. kBadInput else.
#pragma once

#include <cstddef>
#include <vector>

#include "runtime/exec/call.h"

namespace autospc::exec {

Status CheckPositions(const Call& call);               // kernels_placement.cc
Status CheckEmbeddingBackward(const Call& call);       // kernels_index.cc
Status CheckWideProduct(const at::Tensor& out, const at::Tensor& a, const at::Tensor& b);  // kernels_product.cc
Status CheckLayerNorm(const Call& call);               // kernels_norm.cc
Status CheckLayerNormBackward(const Call& call);       // kernels_norm.cc
Status CheckNorm(const Call& call);                    // kernels_step.cc
Status CheckClip(const Call& call);                    // kernels_step.cc
Status CheckReduced(const Call& call);                 // kernels_coalesced.cc: a bucket of gradients
Status CheckGathered(const Call& call);                // kernels_coalesced.cc
Status CheckScattered(const Call& call);               // kernels_coalesced.cc
Status CheckOwnBlock(const Call& call);                // kernels_coalesced.cc

// Kernels of an optimiser's update (kernels_step.cc): parameter, master and states are row-major and of one shape, which
// `alike` names by argument; computed in float64 for float64 parameters.
KernelMaker UpdateKernel(std::vector<size_t> alike, Status (*in_float)(const Call&), Status (*in_double)(const Call&));
// The same of the rank's own block: the kernel sees flat views of what the block has of p, g and the states.
KernelMaker ShardUpdateKernel(std::vector<size_t> blocks, Status (*in_float)(const Call&), Status (*in_double)(const Call&));

}  // namespace autospc::exec
