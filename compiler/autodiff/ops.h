// The autosp.* ops on meta tensors, with their adjoints, and shape rules that LibTorch lacks.
#pragma once

#include <string_view>

namespace autospc::autodiff {

// Makes sure that the registrations of ops.cc and meta_rules.cc are linked in, and registers those of meta_fallback.cc.
// Idempotent.
void RegisterOps();

// Ops whose result is their operand's bytes (autosp.vary, autosp.stop_gradient).
bool IsAliasOp(std::string_view op);

}  // namespace autospc::autodiff
