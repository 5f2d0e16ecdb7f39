// Ranks as processes, over TCP: c10d's Gloo backend.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <memory>
#include <string>

#include "runtime/dist/communicator.h"

namespace c10d {
class Store;
}

namespace autospc {

// Connects this rank with all others through `store` (a TCPStore shared by the job), from `address` (numeric) of this
// machine. kPeerFailed: connections could not be made. Abort() ends the sends and receives that wait, and all later
// ones at once: kInterrupted.
Result<std::unique_ptr<Communicator>> MakeGlooCommunicator(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                                           int size, const std::string& address);

}  // namespace autospc
