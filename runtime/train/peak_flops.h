// The FLOP/s at which model FLOPs utilisation is 1, where nobody gives them: those of a matrix product.
#pragma once

#include <c10/core/Device.h>

#include <string>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc::train {

// The element type in which the program's matrix products and attention are, the most of them by elements made.
program::DType ProductType(const program::ProgramT& program);

// FLOP/s of square products of that type with this process' threads, the best of a few in some 20 ms. All ranks of a
// machine measure at once, as they work at once. On a GPU: of that. 0: LibTorch has no product of the type.
double MeasurePeakFlops(program::DType type, c10::Device device);

}  // namespace autospc::train
