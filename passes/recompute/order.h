// The order of execution, changed where that lowers the peak.
#pragma once

#include "passes/recompute/schedule.h"

namespace autospc::recompute {

// Steps that make more bytes than they free go down to just before their first reader; steps that free more than they
// make go up to just behind what they need: gradients are reduced and used as they are born, weight gradients are not
// held back, repetitions come as late as possible. Data and what is overwritten in place keep their order. The schedule
// stays as it was unless the peak falls. Returns whether it did.
bool Reorder(const Problem& problem, Schedule& schedule);

}  // namespace autospc::recompute
