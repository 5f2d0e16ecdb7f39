// Many schedules lowered at once, each by all of its moves: for graphs small enough for it.
#pragma once

#include <vector>

#include "passes/recompute/schedule.h"

namespace autospc::recompute {

// From `starts`, generation by generation: of every move that lowers one of them the schedule behind it, refilled up to
// its own peak. The next generation are the best `width` by (peak, seconds): what no other beats in both, then what only
// those beat, and so on (the ranks of Deb et al., NSGA-II). All that were made and beaten by none of their generation.
// A beam search: the greedy choice of Lower errs where a dear copy, let go first, makes several cheap ones needless.
std::vector<Schedule> LowerMany(const Problem& problem, std::vector<Schedule> starts, size_t width, int generations);

}  // namespace autospc::recompute
