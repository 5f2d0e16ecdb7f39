// The autosp.* ops on meta tensors, with their adjoints, and shape rules that LibTorch lacks.
#pragma once

#include <cstdint>
#include <string_view>

namespace autospc::autodiff {

// Makes sure that the registrations of ops.cc and meta_rules.cc are linked in, and registers those of meta_fallback.cc.
// Idempotent.
void RegisterOps();

// While it lives, on this thread: kernels that are asked for shapes (meta_fallback.cc) are asked no more than operands of so
// many bytes; c10::NotImplementedError beyond. Without one the limit is what a large model has.
class ShapesWithin {
 public:
  explicit ShapesWithin(int64_t bytes);
  ~ShapesWithin();
  ShapesWithin(const ShapesWithin&) = delete;

 private:
  const int64_t before_;
};

// Ops whose result is their operand's bytes (autosp.vary, autosp.stop_gradient).
bool IsAliasOp(std::string_view op);

}  // namespace autospc::autodiff
