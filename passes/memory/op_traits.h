// What the memory plan must know of an op's kernel; the kernel table answers (codegen passes it in).
#pragma once

#include <cstdint>
#include <functional>

#include "passes/ir/graph.h"

namespace autospc::memory {

struct OpTraits {
  bool in_place_ok = false;         // a result may lie exactly on a dying operand of the same dtype, sizes and strides
  bool first_operand_only = false;  // in_place_ok holds for the first argument alone
  int64_t workspace_bytes = 0;      // scratch, alive during this node alone
  int64_t communication_bytes = 0;  // a collective's staging, alike
};

// May be empty: then nothing runs in place and nothing needs scratch.
using OpTraitsFn = std::function<OpTraits(const ir::Graph&, const ir::Node&)>;

}  // namespace autospc::memory
