// Gradient accumulation: a step of several micro-batches whose loss and gradients are those of one batch that holds
// them all. The graph stays that of one micro-batch, in three parts:
//
//   sums = zeros; each_micro_batch_(N); forward, backward, accumulate_(sum, addend); micro_batches_end_(); the step
//
// The loss is a function of sums over tokens (of losses, of valid labels) and so is known behind the last micro-batch
// alone, and with it by how much a token's loss counts. Each micro-batch therefore differentiates its own sum of losses,
// and the gradients' sums are multiplied once by that much. They are sums of addends (P): what `vary` reduces over the
// ranks is reduced once a step. Not so with ZeRO 2, which is there to hold no whole gradients: each micro-batch's are
// scattered, and the sums are the rank's own blocks.
#pragma once

#include "passes/framework/pass.h"
#include "passes/ir/micro_batches.h"

namespace autospc::step {

// On the canonical graph, where context.micro_batches > 1: loss and logged numbers become the same functions of totals
// over micro-batches (autosp.total) as they were of the sums and means over tokens that they begin with:
//   sum / count, a mean cross entropy (of its valid labels): totals of the sum and of the count
//   a mean, sums over a fixed number, or what is added up of these: the mean of the micro-batches', which are of one size
// Any function of numbers may follow (a clamped count, a root), but a loss has one total through which it depends on
// parameters: behind several no one factor would be that of all gradients. A logged sum is the step's sum.
// kUnsupported, with the node: a loss of several such, or that is a sum itself; a number that begins otherwise (a largest
// one); batch normalisation by the batch's statistics; a number made of the whole batch that meets its tokens; a buffer
// that a micro-batch writes and the loss reads.
Result<bool> TotalLosses(ir::Graph& graph, PassContext& context);

// On the joint graph of such a one (with ZeRO 2 behind BucketGradients): the three parts. 16-bit gradients are summed in
// float32 and stay so.
Result<bool> AccumulateGradients(ir::Graph& graph, PassContext& context);

}  // namespace autospc::step
