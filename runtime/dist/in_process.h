// Ranks as threads of one process: for tests, and for several ranks on one GPU.
#pragma once

#include <memory>
#include <vector>

#include "runtime/dist/communicator.h"

namespace autospc {

// The communicators of `size` ranks that meet in this process; each is used by one thread. After Abort() of
// any of them every waiting and later call returns kInterrupted.
std::vector<std::unique_ptr<Communicator>> MakeInProcessCommunicators(int size);

}  // namespace autospc
