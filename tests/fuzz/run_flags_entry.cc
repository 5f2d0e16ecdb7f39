// autosp-run's own source, with the one function that it calls replaced: what is held to its promises is how the
// program reads its flags.
#include "cli/flags.h"
#include "runtime/train/run.h"
#include "tests/fuzz/arguments.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/entries.h"

namespace autospc::train {
static Result<int> RunNothing(const RunOptions&) { return 0; }
}  // namespace autospc::train

// Of this file alone, and never called: what it calls need not be here.
[[maybe_unused]] static int AutospRunMain(int argc, char** argv);

#define Run RunNothing
#define main AutospRunMain
#include "cli/autosp_run.cc"
#undef main
#undef Run

namespace autospc::fuzz {

void RunFlags(std::string_view bytes) {
  const Result<int> done = RunMain(ArgumentsOf(bytes));
  if (!done.ok()) CheckError(done.error(), {Code::kUsage, Code::kBadInput});
}

}  // namespace autospc::fuzz
