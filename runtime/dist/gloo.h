// Ranks as processes, over TCP: c10d's Gloo backend.
#pragma once

#include <c10/util/intrusive_ptr.h>

#include <memory>

#include "runtime/dist/communicator.h"

namespace c10d {
class Store;
}

namespace autospc {

// Connects this rank with all others through `store` (a TCPStore shared by the job). The network interface
// is GLOO_SOCKET_IFNAME's if set, the loopback one if `local`, else that of this machine's host name.
// kPeerFailed: a rank did not come, or connections could not be made.
Result<std::unique_ptr<Communicator>> MakeGlooCommunicator(const c10::intrusive_ptr<c10d::Store>& store, int rank,
                                                           int size, bool local);

}  // namespace autospc
