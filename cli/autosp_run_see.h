// autosp-run's flags about how a run is seen, and `autosp-run plot`.
#pragma once

#include <string>
#include <vector>

#include "cli/flags.h"
#include "runtime/train/see_options.h"

namespace autospc::cli {

void AddSeeFlags(po::options_description* flags);
// `steps`: of --steps; 0: nothing is trained, and flags that tell of steps are refused (kUsage), as are bad values.
Status ReadSeeFlags(const Flags& flags, int64_t steps, train::SeeOptions* options);

// autosp-run plot FILE... -o OUT.svg
Result<int> RunPlot(const std::vector<std::string>& arguments);

}  // namespace autospc::cli
