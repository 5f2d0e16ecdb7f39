// What the ranks of a job tell each other outside of a step, in the order in which all of them ask.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/dist/communicator.h"

namespace autospc::train {

// Rank 0's text, on every rank.
Result<std::string> BroadcastText(Communicator* communicator, const std::string& text);

// The texts of all ranks, by rank; each is cut at `width` bytes.
Result<std::vector<std::string>> GatherTexts(Communicator* communicator, const std::string& mine, size_t width = 1024);

// Ok where every rank's status is. A rank's own error is returned on it; the others get kPeerFailed, which names the
// first rank that failed and says how. So nobody waits for a rank that has gone.
Status AgreeOn(Communicator* communicator, const Status& mine);

}  // namespace autospc::train
