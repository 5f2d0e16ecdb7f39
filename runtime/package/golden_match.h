// Which computed gradient belongs to which reference: names, ties and sizes.
#pragma once

#include <vector>

#include "runtime/package/golden.h"

namespace autospc {

// For each of the file's gradients the index of the computed one, -1 for a parameter that has none. kBadInput
// lists every name that is missing, extra, there twice, or of other sizes.
Result<std::vector<int>> MatchGradients(const GoldenFile& golden, const std::vector<ComputedGradient>& gradients,
                                        const program::ProgramT& program);

}  // namespace autospc
