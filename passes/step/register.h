// The training step, built around a differentiated graph: gradients reduced in buckets, the optimiser's
// updates, buffers written back. Each pass also runs alone (autospc-opt).
//
// All of them expect what differentiation leaves: constant local sizes, strides, `base` on views, kGradient and
// kBufferUpdate outputs. They move no node that they did not make, except all-reduces of gradients.
#pragma once

#include <string>
#include <vector>

#include "passes/framework/pass.h"

namespace autospc {

void RegisterStepPasses(PassRegistry& registry);

// Those that a compilation runs on a differentiated graph, in order.
std::vector<std::string> StepPipeline(const PassContext& context);

namespace step {

using autospc::RegisterStepPasses;
using autospc::StepPipeline;

// A sum over one axis of the mesh of a sum over the other, of which nothing else reads the inner one, becomes one sum over
// all ranks: the gradients of parameters, the loss and its count. Returns how many.
int MergeReductions(ir::Graph& graph);

// autosp.all_reduce nodes of the backward phase whose result is a gradient and nothing else become buckets of
// one dtype and axis (on a mesh with dp after MergeReductions), in the order in which gradients are born. A bucket is
// closed when the next gradient would take it over context.bucket_bytes (sets context.chosen_bucket_bytes); one that
// fills a bucket alone is reduced at once. Gradients are reduced in place, where they lie (all_reduce_, all_reduce_coalesced_); an addend that something else reads, or
// that shares its storage, is cloned. No reduction is added.
// ZeRO 2: reduce_scatter_coalesced instead, and a kGradient output is the rank's own block, S; a gradient that is a
// view of other layout than its reduction stays whole.
Result<bool> BucketGradients(ir::Graph& graph, PassContext& context);

// The output "grad_norm" (kUser, float64 []): the norm over all gradients, each parameter once. With
// context.optimizer "sgd" or "adamw" also one fused update for each parameter that has a gradient, with torch.optim's
// defaults; new kState inputs "lr" (float64 []), "step" (int64 []), "NAME.exp_avg", "NAME.exp_avg_sq" and, for
// parameters of 16 bits, "NAME.master" (float32, as are their moments). With context.clip_norm > 0 all updates
// follow the norm; else each runs as soon as its gradient is final and its parameter read for the last time.
// ZeRO 1 and 2 (zero.h): states are blocks [ceil(n / P)] placed S under the same names, so that the ranks' blocks one
// after the other, cut to n, are the whole; each rank updates its own block of a parameter, the norm is taken from the
// blocks and summed over ranks, and updated parameters are gathered in buckets of context.chosen_bucket_bytes.
// kUsage for an unknown optimiser or a negative clip norm.
Result<bool> AddOptimizer(ir::Graph& graph, PassContext& context);

// Each kBufferUpdate becomes a copy into the buffer's own storage at the end of the step (of each of its micro-batches),
// when its old value has been read for the last time.
Result<bool> WriteBuffers(ir::Graph& graph, PassContext& context);

}  // namespace step
}  // namespace autospc
