// SIGTERM and SIGUSR1 (a batch system that is about to end the job) ask for a checkpoint and the end of the run.
#pragma once

namespace autospc::train {

// From now on these signals are remembered instead of ending the process. Also: a file that outgrows its limit is an
// error of the write, as a full disk is, and no signal.
void CatchStopSignals();
// The signal that came last, 0 if none did.
int StopSignal();

}  // namespace autospc::train
