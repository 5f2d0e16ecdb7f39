// What a compilation weighed before it chose: time against memory of every candidate program.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace autospc {

// One candidate program: the chosen one as the memory planner laid it out, the others by the bytes alive at once, which
// the planner comes close to.
struct PlanPoint {
  std::string label;               // what it is: "none", "layers", "price 0.25", "tile 8, price 2"
  int64_t peak_bytes = 0;          // a rank: persistent storages and the arena
  int64_t arena_bytes = 0;
  double seconds = 0;              // estimated time of a step, recomputation included (codegen/cost.h)
  double recompute_seconds = 0;    // of which nodes run again
  bool chosen = false;
};

}  // namespace autospc
