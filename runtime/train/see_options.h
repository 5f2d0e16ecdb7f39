// How a run is to be seen: --metrics, --tensorboard, --trace, --peak-flops, --check-numerics.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/base/result.h"

namespace autospc::train {

struct SeeOptions {
  std::string metrics;      // a file of JSON lines, "": none
  std::string tensorboard;  // a folder of event files
  std::string trace;        // a file for Perfetto
  int64_t trace_first = 1, trace_last = 3;  // of the steps that it shows, counted from the first one of this start
  double peak_flops = 0;    // FLOP/s of a rank at which its utilisation is 1; 0: measured
  bool check_numerics = false;
  bool progress = true;     // a bar on a terminal
};

// Before anything starts, in the one process that looks: kUsage where --metrics names a file with steps in it and the
// run begins anew, or a folder that does not exist.
Status CheckOutputs(const SeeOptions& options, bool resumed);

}  // namespace autospc::train
