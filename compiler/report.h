// The picture of a compilation, for people: memory over the step, the arena as a map, the curve of time against memory,
// the collectives, and what was gathered.
#pragma once

#include <string>

#include "compiler/driver.h"

namespace autospc {

// One HTML file that needs nothing from outside and opens without a network: the same bytes for the same program.
// Its size is bounded (some 4 MB) whatever the program's. Names and source lines that came with the model are shown as
// text, whatever they hold. The program is one that codegen::CheckProgram accepts; kBadInput: its record of the options
// is not JSON.
Result<std::string> HtmlReport(const Compiled& compiled);

}  // namespace autospc
