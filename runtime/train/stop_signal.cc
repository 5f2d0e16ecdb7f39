#include "runtime/train/stop_signal.h"

#include <atomic>
#include <csignal>

namespace autospc::train {
namespace {

std::atomic<int> the_signal{0};
static_assert(std::atomic<int>::is_always_lock_free);

}  // namespace

void CatchStopSignals() {
  struct sigaction action {};
  action.sa_handler = [](int signal) { the_signal.store(signal, std::memory_order_relaxed); };
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGTERM, SIGUSR1}) sigaction(signal, &action, nullptr);
  std::signal(SIGXFSZ, SIG_IGN);
}

int StopSignal() { return the_signal.load(std::memory_order_relaxed); }

}  // namespace autospc::train
