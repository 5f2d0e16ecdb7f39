// What a run is asked to do about checkpoints.
#pragma once

#include <cstdint>
#include <string>

namespace autospc::train {

struct CheckpointOptions {
  std::string dir;      // --checkpoint; "": none
  int64_t every = 0;    // --checkpoint-every; 0: at the end and on a signal alone
  int64_t keep = 3;     // --keep; 0: all
  std::string resume;   // --resume: a folder, or "auto" (restore.h); "": from the beginning
};

}  // namespace autospc::train
