// What autocast does to an op, as explicit casts. Source: LibTorch's aten/src/ATen/autocast_mode.{h,cpp}; the lists
// for CUDA are the header's own macros, those for CPU are held to the dispatcher by a test.
#pragma once

#include <functional>
#include <string_view>
#include <vector>

#include "compiler/import/op_schema.h"
#include "passes/ir/graph.h"

namespace autospc::import {

enum class CastPolicy : uint8_t {
  kNone,          // runs in the dtypes it is given
  kLower,         // operands are cast to the region's dtype
  kFloat32,       // operands are cast to float32
  kFloat32Dtype,  // its dtype argument becomes float32 where it is None
  kPromote,       // operands are cast to the widest of float32 and the region's dtype
  kBanned,        // refused by autocast
};

// `device`: "cpu" or "cuda"; other accelerators share CUDA's lists.
CastPolicy AutocastPolicy(std::string_view op, std::string_view device);

// What the casts need to know and do.
struct Caster {
  std::function<bool(ir::ValueId)> eligible;  // real floating, not float64, on the region's device
  std::function<ir::DType(ir::ValueId)> dtype;
  std::function<ir::ValueId(ir::ValueId, ir::DType)> cast;
};

// Casts the arguments of `op` in place, in a region of `device` with the dtype `lower`. `result` is the recorded dtype
// of its first result: an op that is on no list and made of ops that are (a composite) is given operands of that dtype,
// as its parts would be. kUnsupported: an op that autocast refuses.
Status ApplyAutocast(const OpSchema& op, std::string_view device, ir::DType lower, ir::DType result,
                     const Caster& caster, std::vector<ir::Arg>* args);

}  // namespace autospc::import
