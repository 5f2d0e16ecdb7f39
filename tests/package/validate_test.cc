#include "runtime/package/validate.h"

#include <gtest/gtest.h>

#include <functional>

#include "runtime/package/micro_batches.h"
#include "tests/package/sample.h"

namespace autospc {
namespace {

struct Fault {
  const char* name;
  std::function<void(program::ProgramT&)> plant;
  const char* says;
};

TEST(Validate, TheSampleIsSound) {
  const program::ProgramT p = SampleProgram();
  const Status status = ValidateProgram(p, "here");
  EXPECT_TRUE(status.ok()) << status.error().Format();
}

TEST(Validate, EachFaultIsFound) {
  using P = program::ProgramT&;
  constexpr int64_t kHuge = int64_t{1} << 62;
  const Fault faults[] = {
      {"no ranks", [](P p) { p.world_size = 0; }, "0 ranks"},
      {"negative arena", [](P p) { p.arena_bytes = -1; }, "arena of -1"},
      {"device", [](P p) { p.device = "tpu"; }, "'tpu'"},
      {"half an alias", [](P p) { p.aliases.pop_back(); }, "alias"},
      {"half a tie", [](P p) { p.tie_candidates.pop_back(); }, "a head without the embedding"},
      {"storage kind", [](P p) { p.storages[0]->kind = static_cast<program::StorageKind>(99); }, "unknown kind 99"},
      {"negative storage", [](P p) { p.storages[4]->bytes = -8; }, "-8 bytes"},
      {"persistent in the arena", [](P p) { p.storages[0]->arena_offset = 0; }, "persistent"},
      {"arena storage without offset", [](P p) { p.storages[6]->arena_offset = -1; }, "does not lie in the arena"},
      {"arena storage past the end", [](P p) { p.storages[8]->arena_offset = 192; }, "does not lie in the arena"},
      {"arena storage, sum overflows", [](P p) { p.storages[8]->arena_offset = INT64_MAX - 63; }, "does not lie in the arena"},
      {"unaligned arena storage", [](P p) { p.storages[7]->arena_offset = 32; }, "does not lie in the arena"},
      {"life backwards", [](P p) { p.storages[6]->first = 2; }, "lives from 2 to 1"},
      {"life past the end", [](P p) { p.storages[6]->last = 9; }, "lives from 0 to 9"},
      {"dtype", [](P p) { p.tensors[1]->dtype = static_cast<program::DType>(12); }, "unknown type 12"},
      {"storage index", [](P p) { p.tensors[1]->storage = 9; }, "storage 9"},
      {"negative storage index", [](P p) { p.tensors[1]->storage = -1; }, "storage -1"},
      {"strides missing", [](P p) { p.tensors[0]->strides.pop_back(); }, "2 sizes and 1 strides"},
      {"negative size", [](P p) { p.tensors[0]->sizes[0] = -2; }, "sizes [-2, 4]"},
      {"sizes overflow", [](P p) { p.tensors[0]->sizes = {kHuge, 4}; }, "sizes"},
      {"too large for its storage", [](P p) { p.tensors[0]->sizes[0] = 3; }, "leaves its storage"},
      {"stride too long", [](P p) { p.tensors[5]->strides = {1, 5}; }, "leaves its storage"},
      {"stride overflows", [](P p) { p.tensors[0]->strides = {INT64_MAX, 1}; p.tensors[0]->sizes = {2, 4}; }, "leaves its storage"},
      {"stride negative", [](P p) { p.tensors[0]->strides = {-4, 1}; }, "leaves its storage"},
      {"offset past the end", [](P p) { p.tensors[1]->byte_offset = 20; }, "starts at byte 20"},
      {"offset negative", [](P p) { p.tensors[1]->byte_offset = -4; }, "starts at byte -4"},
      {"offset moves the tensor out", [](P p) { p.tensors[1]->byte_offset = 4; }, "leaves its storage"},
      {"offset unaligned", [](P p) { p.tensors[1]->byte_offset = 2; }, "starts at byte 2"},
      {"a block of nothing", [](P p) { p.tensors[2]->block_of = -1; }, "no rank's block of -1"},
      {"a block of another length", [](P p) { p.tensors[2]->block_of = 8 * p.world_size + 1; }, "no rank's block"},
      {"a block of a matrix", [](P p) { p.tensors[0]->block_of = 2 * p.world_size; }, "no rank's block"},
      {"a block of another whole", [](P p) {
         p.tensors[2]->block_of = 8 * p.world_size;
         p.outputs[0]->tensor = 2;
         p.outputs[0]->sizes = {8, p.world_size + 1};
       }, "of a whole with sizes [8, "},
      {"no op", [](P p) { p.instructions[0]->op.clear(); }, "no op"},
      {"argument", [](P p) { p.instructions[0]->args[0]->tensor = 7; }, "refers to nothing"},
      {"argument in a list", [](P p) { p.instructions[0]->args[1]->ints[0] = -2; }, "refers to nothing"},
      {"argument's dtype", [](P p) {
         p.instructions[0]->args[0]->kind = program::ArgKind::DType;
         p.instructions[0]->args[0]->dtype = static_cast<program::DType>(200);
       }, "refers to nothing"},
      {"argument's kind", [](P p) { p.instructions[0]->args[0]->kind = static_cast<program::ArgKind>(77); }, "refers to nothing"},
      {"output", [](P p) { p.instructions[0]->outputs[0] = 99; }, "writes to tensor 99"},
      {"workspace", [](P p) { p.instructions[1]->workspace = 9; }, "storage 9 for its workspace"},
      {"workspace that persists", [](P p) { p.instructions[1]->workspace = 0; }, "storage 0 for its workspace"},
      {"workspace on a result", [](P p) { p.storages[8]->arena_offset = 64; }, "works in storage 8"},
      {"workspace on an operand", [](P p) { p.storages[8]->arena_offset = 0; }, "works in storage 8"},
      {"source", [](P p) { p.instructions[1]->source = 2; }, "source line 2"},
      {"phase", [](P p) { p.instructions[1]->phase = 3; }, "unknown phase 3"},
      {"input", [](P p) { p.inputs[0]->tensor = 5; }, "input 'ids'"},
      {"input's dim", [](P p) { p.inputs[0]->seq_dim = 2; }, "dim 2 for its sequence"},
      {"input's role", [](P p) { p.inputs[0]->role = static_cast<program::InputRole>(9); }, "unknown role 9"},
      {"input's ids", [](P p) { p.inputs[0]->limit = -1; }, "-1 ids"},
      {"labels", [](P p) { p.label_shift = static_cast<program::LabelShift>(3); }, "unknown way 3"},
      {"output of the program", [](P p) { p.outputs[0]->after = 3; }, "after instruction 3"},
      {"output's tensor", [](P p) { p.outputs[0]->tensor = -1; }, "output 'block.w'"},
      {"scalar", [](P p) { p.scalars[0]->tensor = 1; }, "scalar 'lr'"},
      {"collective", [](P p) { p.collectives[0]->instruction = 3; }, "collective at instruction 3"},
  };
  for (const Fault& fault : faults) {
    program::ProgramT p = SampleProgram();
    fault.plant(p);
    const Status status = ValidateProgram(p, "here");
    ASSERT_FALSE(status.ok()) << fault.name;
    EXPECT_EQ(status.error().code, Code::kBadInput) << fault.name;
    EXPECT_NE(status.error().what.find(fault.says), std::string::npos) << fault.name << ": " << status.error().what;
    EXPECT_EQ(status.error().where, "here");
  }
}

// Zeros of a sum, what runs for each micro-batch, and the rest: instructions 0, 2 and 4, between them the ends.
program::ProgramT MicroBatched() {
  program::ProgramT p = SampleProgram();
  const auto mark = [&](int at, const char* op, bool count) {
    auto n = std::make_unique<program::InstructionT>();
    n->op = op;
    if (count) {
      n->args.push_back(std::make_unique<program::ArgT>());
      n->args[0]->kind = program::ArgKind::Int;
      n->args[0]->i = 3;
    }
    p.instructions.insert(p.instructions.begin() + at, std::move(n));
  };
  mark(1, "autosp.each_micro_batch_", true);
  mark(3, "autosp.micro_batches_end_", false);
  p.storages[6]->last = 4;                            // the sum
  p.storages[7]->first = p.storages[7]->last = 2;     // of a micro-batch
  p.storages[8]->first = p.storages[8]->last = 2;
  p.outputs[0]->after = p.collectives[0]->instruction = 2;
  return p;
}

TEST(Validate, MicroBatchesBeginAndEndOnceAndLeaveNothingBehind) {
  const program::ProgramT sound = MicroBatched();
  const Status status = ValidateProgram(sound, "here");
  EXPECT_TRUE(status.ok()) << status.error().Format();
  EXPECT_EQ(MicroBatchesOf(sound).count, 3);
  EXPECT_EQ(MicroBatchesOf(sound).begin, 2);
  EXPECT_EQ(MicroBatchesOf(sound).end, 3);
  EXPECT_EQ(MicroBatchesOf(sound).Times(2), 3);
  EXPECT_EQ(MicroBatchesOf(sound).Times(4), 1);
  EXPECT_EQ(MicroBatchesOf(SampleProgram()).Times(1), 1);
  using P = program::ProgramT&;
  const Fault faults[] = {
      {"no end", [](P p) { p.instructions[3]->op = "autosp.vary"; }, "do not begin once and end once"},
      {"two beginnings", [](P p) { p.instructions[0]->op = "autosp.each_micro_batch_"; }, "gives no count"},
      {"the end first", [](P p) { std::swap(p.instructions[1], p.instructions[3]); }, "do not begin once and end once"},
      {"no count", [](P p) { p.instructions[1]->args.clear(); }, "gives no count"},
      {"a count of none", [](P p) { p.instructions[1]->args[0]->i = 0; }, "gives no count"},
      {"a count of too many", [](P p) { p.instructions[1]->args[0]->i = kMaxMicroBatches + 1; }, "gives no count"},
      {"a sum that dies on the way", [](P p) { p.storages[6]->last = 2; }, "second micro-batch would find nothing in 'y'"},
      {"a value that lives on", [](P p) { p.storages[7]->last = 4; }, "'dw' is of the last micro-batch"},
  };
  for (const Fault& fault : faults) {
    program::ProgramT p = MicroBatched();
    fault.plant(p);
    const Status bad = ValidateProgram(p, "here");
    ASSERT_FALSE(bad.ok()) << fault.name;
    EXPECT_EQ(bad.error().code, Code::kBadInput) << fault.name;
    EXPECT_NE(bad.error().what.find(fault.says), std::string::npos) << fault.name << ": " << bad.error().what;
    EXPECT_EQ(bad.error().where, "here");
  }
}

TEST(Validate, EmptyTensorsTakeNoRoom) {
  program::ProgramT p = SampleProgram();
  p.tensors[1]->sizes = {0, int64_t{1} << 40};
  p.tensors[1]->strides = {int64_t{1} << 40, 1};
  EXPECT_TRUE(ValidateProgram(p, "").ok());
}

std::string Packed(const program::ProgramT& p) {
  flatbuffers::FlatBufferBuilder builder;
  program::FinishProgramBuffer(builder, program::Program::Pack(builder, &p));
  return {reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize()};
}

TEST(Unpack, GivesWhatWasPacked) {
  const std::string bytes = Packed(SampleProgram());
  auto p = UnpackProgram(bytes, "here");
  ASSERT_TRUE(p.ok()) << p.error().Format();
  EXPECT_EQ(Packed(**p), bytes);
}

TEST(Unpack, MoreThanAMillionTablesAreNotTooMany) {
  program::ProgramT p = SampleProgram();
  while (p.instructions.size() < 180000) {  // with their arguments more tables than the verifier's default million
    auto n = std::make_unique<program::InstructionT>(*p.instructions[0]);
    for (int i = 0; i < 3; ++i) n->args.push_back(std::make_unique<program::ArgT>());
    p.instructions.push_back(std::move(n));
  }
  EXPECT_TRUE(UnpackProgram(Packed(p), "here").ok());
}

TEST(Unpack, OtherBytesAreRefused) {
  for (const std::string& bytes : {std::string(), std::string("ASPP"), std::string(64, '\0'), std::string(64, '\xff')}) {
    auto p = UnpackProgram(bytes, "here");
    ASSERT_FALSE(p.ok());
    EXPECT_EQ(p.error().code, Code::kBadInput);
  }
}

// One long vector that many arguments share would be copied for each of them: a small file, terabytes of memory.
TEST(Unpack, ASharedVectorIsRefused) {
  flatbuffers::FlatBufferBuilder builder;
  const auto ints = builder.CreateVector(std::vector<int64_t>(1 << 16, 1));
  const auto op = builder.CreateString("aten.add");
  std::vector<flatbuffers::Offset<program::Arg>> args;
  for (int i = 0; i < 1000; ++i) {
    program::ArgBuilder arg(builder);
    arg.add_ints(ints);
    args.push_back(arg.Finish());
  }
  const auto instruction = program::CreateInstruction(builder, op, builder.CreateVector(args));
  const auto instructions = builder.CreateVector(&instruction, 1);
  program::ProgramBuilder p(builder);
  p.add_instructions(instructions);
  program::FinishProgramBuffer(builder, p.Finish());
  const std::string bytes(reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize());
  EXPECT_LT(bytes.size(), 1u << 20);
  EXPECT_FALSE(UnpackProgram(bytes, "here").ok());
}

// The same with tables: one instruction with many arguments, named many times.
TEST(Unpack, ASharedTableIsRefused) {
  flatbuffers::FlatBufferBuilder builder;
  std::vector<flatbuffers::Offset<program::Arg>> args;
  for (int i = 0; i < 10000; ++i) args.push_back(program::CreateArg(builder));
  const auto instruction = program::CreateInstruction(builder, builder.CreateString("x"), builder.CreateVector(args));
  const auto instructions = builder.CreateVector(std::vector<flatbuffers::Offset<program::Instruction>>(10000, instruction));
  program::ProgramBuilder p(builder);
  p.add_instructions(instructions);
  program::FinishProgramBuffer(builder, p.Finish());
  EXPECT_FALSE(UnpackProgram({reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize()}, "here").ok());
}

}  // namespace
}  // namespace autospc
