// What saving needs to know of the export and running does not: a part of Program.options, a JSON object that says what
// shaped the program.
#pragma once

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/package/program_generated.h"

namespace autospc {

struct ExportFacts {
  std::set<std::string> non_persistent;  // buffers that the model's state dict does not hold
  // (a parameter or buffer, a name under which the checkpoint given to the compiler holds it), where names differ; a
  // tied one may have several. What is trained is saved under these.
  std::vector<std::pair<std::string, std::string>> checkpoint_names;
  bool narrowed = false;  // a float32 export that the compiler made a bfloat16 step of (--dtype)
};

// As the compiler writes them; nothing where the options are no such object.
ExportFacts ReadExportFacts(const program::ProgramT& program);

}  // namespace autospc
