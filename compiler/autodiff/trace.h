// Differentiation by LibTorch's own autograd: the forward graph is replayed on meta tensors, every call
// that reaches a backend is recorded, and torch::autograd::grad on the loss records the backward pass.
// (The interception is torchdistx's: a boxed fallback on DispatchKey::Fake, above Meta, below Autograd.)
#pragma once

#include "passes/ir/graph.h"

namespace autospc::autodiff {

// The joint graph of a bound, functional forward graph with local shapes. The result has:
// - the inputs of `forward`, by the same names,
// - every op as it reaches a backend, with exact sizes and strides, and `base` of each view,
// - phase, source line and module on each node; a backward node inherits those of its forward node,
// - placements of the forward's values that survive as they are,
// - the outputs of `forward` and one kGradient for each parameter that requires a gradient and gets one.
// With `differentiate` false only the forward is recorded.
// Errors: kUnsupported for an op without a shape rule on meta tensors, or a loss that is not a scalar that
// depends on a parameter; kBadInput where shapes don't go together. All name the node and its source.
Result<ir::Graph> Trace(const ir::Graph& forward, bool differentiate = true);

}  // namespace autospc::autodiff
