#include "runtime/package/oci.h"
#include "runtime/package/seeded_init.h"
#include "runtime/package/validate.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/entries.h"

namespace autospc::fuzz {

void Program(std::string_view bytes) {
  const auto program = UnpackProgram(bytes, "program");
  if (!program.ok()) return CheckError(program.error(), {Code::kBadInput});
  const Status sound = ValidateProgram(**program, "program");
  if (!sound.ok()) return CheckError(sound.error(), {Code::kBadInput});
  (void)WholeTensors(**program);
  // What was accepted is accepted again, as a package would store it.
  flatbuffers::FlatBufferBuilder builder;
  program::FinishProgramBuffer(builder, program::Program::Pack(builder, program->get()));
  const std::string_view packed(reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize());
  const auto again = UnpackProgram(packed, "packed");
  if (!again.ok() || !ValidateProgram(**again, "packed").ok()) Broken("an accepted program is accepted when it is packed again");
}

}  // namespace autospc::fuzz
