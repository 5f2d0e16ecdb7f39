// autospc's own source, with the functions that work on files replaced: what is held to its promises is how the
// program reads its flags.
#include "cli/flags.h"
#include "compiler/driver.h"
#include "compiler/inspect.h"
#include "compiler/planner.h"
#include "compiler/report.h"
#include "runtime/base/files.h"
#include "runtime/package/oci.h"
#include "tests/fuzz/arguments.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/entries.h"

namespace autospc {
static Error Nothing() { return {Code::kUsage, "nothing is done here", "", ""}; }
static Result<Compiled> CompileNothing(const CompileOptions&) { return Nothing(); }
static Result<Plan> PlanNothing(const PlanRequest&) { return Nothing(); }
static Result<std::string> InspectNothing(const std::string&, bool) { return Nothing(); }
}  // namespace autospc

// Of this file alone, and never called.
[[maybe_unused]] static int AutospcMain(int argc, char** argv);

#define Compile CompileNothing
#define MakePlan PlanNothing
#define Inspect InspectNothing
#define main AutospcMain
#include "cli/autospc.cc"
#undef main
#undef Inspect
#undef MakePlan
#undef Compile

namespace autospc::fuzz {

void CompileFlags(std::string_view bytes) {
  std::vector<std::string> arguments = ArgumentsOf(bytes);
  if (arguments.empty()) return;
  const std::string command = arguments.front();
  arguments.erase(arguments.begin());
  const Status done = command == "plan" ? RunPlan(arguments) : command == "inspect" ? RunInspect(arguments) : RunCompile(arguments);
  if (!done.ok()) CheckError(done.error(), {Code::kUsage});
}

}  // namespace autospc::fuzz
