#include "compiler/fit.h"

#include <gtest/gtest.h>

#include "tests/package/sample.h"

namespace autospc {
namespace {

// The sample holds 184 bytes outside an arena of 256, in which 32 + 32 + 100 bytes are alive at its second instruction.
TEST(DoesNotFit, SaysBytesKindsAndBuffersByFallingSize) {
  const Error error = DoesNotFit(SampleProgram(), 400, "model.pt2");
  EXPECT_EQ(error.code, Code::kDoesNotFit);
  EXPECT_EQ(error.where, "model.pt2");
  EXPECT_NE(error.hint.find("--memory-budget"), std::string::npos) << error.hint;
  for (const char* part : {"needs 440 B at the least: 40 B (40 bytes) more than the budget of 400 B",
                           "weights 32 B, buffers 16 B, constants 32 B, inputs 72 B, optimizer 32 B\n  the arena: 256 B",
                           "instruction 2 of 3, autosp.all_reduce (model.py:12):"}) {
    EXPECT_NE(error.what.find(part), std::string::npos) << part << "\n" << error.what;
  }
  const size_t workspace = error.what.find("mul.workspace"), y = error.what.find("activations   y"), dw = error.what.find("gradients     dw");
  ASSERT_NE(dw, std::string::npos) << error.what;
  EXPECT_LT(workspace, y);
  EXPECT_LT(y, dw) << "equal sizes in order of the program";
  EXPECT_EQ(error.what.find("alone"), std::string::npos) << "the persistent part fits";
  EXPECT_EQ(error.what.find("smaller ones"), std::string::npos) << "all are listed";
}

TEST(DoesNotFit, SaysWhereWhatIsPersistentIsTooMuchAlone) {
  const Error error = DoesNotFit(SampleProgram(), 100, "model.pt2");
  EXPECT_NE(error.what.find("exceeds the budget by 84 B alone"), std::string::npos) << error.what;
}

TEST(DoesNotFit, ListsTenBuffersAndTheRestAsASum) {
  program::ProgramT program = SampleProgram();
  for (int i = 0; i < 20; ++i) {
    auto s = std::make_unique<program::StorageT>();
    s->kind = program::StorageKind::Activation;
    s->bytes = 1024 * (i + 1);
    s->arena_offset = 0;
    s->name = fmt::format("big{}", i);
    s->first = s->last = 1;
    program.storages.push_back(std::move(s));
  }
  const Error error = DoesNotFit(program, 10, "");
  EXPECT_NE(error.what.find("big19"), std::string::npos);
  EXPECT_NE(error.what.find("big10 "), std::string::npos) << "the tenth";
  EXPECT_EQ(error.what.find("big9 "), std::string::npos) << "the eleventh";
  EXPECT_NE(error.what.find("in smaller ones"), std::string::npos);
}

TEST(DoesNotFit, AProgramWithoutArena) {
  program::ProgramT program = SampleProgram();
  program.storages.resize(6);
  program.arena_bytes = 0;
  const Error error = DoesNotFit(program, 100, "");
  EXPECT_NE(error.what.find("the arena: 0 B"), std::string::npos) << error.what;
  EXPECT_EQ(error.what.find("alive"), std::string::npos);
}

}  // namespace
}  // namespace autospc
