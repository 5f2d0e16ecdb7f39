// Some of the ranks of a job as a communicator of their own: the rows and columns of a mesh.
#pragma once

#include <memory>
#include <vector>

#include "runtime/dist/communicator.h"

namespace autospc {

// The ranks `members` of `whole`, numbered in that order; this rank is one of them. Its exchanges are `whole`'s, with
// nothing for ranks outside, so every rank uses its group in the same order as `whole`: all call this at the same time,
// each for a group of the same size, no two of which have a rank in common. `whole` must outlive the result.
// kFailed: no such group.
Result<std::unique_ptr<Communicator>> MakeGroup(Communicator* whole, const std::vector<int>& members);

}  // namespace autospc
