// autosp.attention and its backward pass as instructions: what both sets of kernels make of one when it is loaded.
#pragma once

#include <memory>
#include <vector>

#include "runtime/exec/attention.h"
#include "runtime/exec/call.h"
#include "runtime/package/portable_workspace.h"

namespace autospc::exec {

// The arguments of a call, and what they point into. Lives as long as the call's kernel.
struct AttentionCall {
  Predicate predicate;
  std::vector<AttentionVector> vectors;
  std::vector<int> kv_heads;
  std::vector<int64_t> global_heads;
  AttentionBackwardArgs args;  // the forward pass uses its first half
};

// Operands and results of the forward pass and of the backward pass. kBadInput: they do not fit each other. Whether the
// workspace is large enough, each set of kernels asks for itself.
Result<std::shared_ptr<AttentionCall>> ResolveAttention(const Call& call);
Result<std::shared_ptr<AttentionCall>> ResolveAttentionBackward(const Call& call);

// The portable kernels of such calls (portable_attention.cc), in tiles of that size, which the workspace should hold.
void PortableAttentionForward(const Call& call, const AttentionCall& attention, PortableTile tile, double dropout);
void PortableAttentionBackward(const Call& call, const AttentionCall& attention, PortableTile tile);

}  // namespace autospc::exec
