#include "compiler/inspect.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <sstream>

#include <nlohmann/json.hpp>

#include "compiler/import/import.h"
#include "tests/package/sample.h"

namespace autospc {
namespace {

using nlohmann::json;

void ExpectNarrow(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100u) << line;
}

class InspectPackageTest : public ::testing::Test {
 protected:
  std::string Describe(const program::ProgramT& program, bool as_json, bool weights = true) {
    PackageContents contents = SampleContents(folder);
    if (!weights) contents.weights.clear();
    const Status written = WritePackage(program, contents, folder / "p", {.force = true});
    EXPECT_TRUE(written.ok()) << written.error().Format();
    auto text = Inspect(folder / "p", as_json);
    EXPECT_TRUE(text.ok()) << text.error().Format();
    return text.ok() ? *text : "";
  }
  TempFolder folder;
};

TEST_F(InspectPackageTest, TextSaysWhatItIs) {
  const std::string text = Describe(SampleProgram(), false);
  ExpectNarrow(text);
  for (const char* part : {"sample: 2 ranks, sequence 4, batch 2, on cpu", "strategy ulysses, optimizer sgd",
                           "3 instructions: 3 forward, 0 backward, 0 step; 4.5 GFLOP a rank and step", "weights", "32 B",
                           "440 B   184 B persistent and 256 B arena",
                           "peak at instruction 1, autosp.all_reduce model.py:12: 256 B of the arena are alive",
                           "Collectives: 1 in a step, 32 B sent by a rank", "gradient of block.w", "mul.workspace",
                           "aten.sort.default", "no partition rule", "model.py:13", "4.00 KiB",
                           "application/vnd.autospc.program.v1"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

// Sums from the sample: 32 weights, 16 buffers, 32 constants, 64 + 8 inputs, 32 optimiser; at instruction 1 the
// activation, the gradient and the workspace are alive, each rounded up to 64.
TEST_F(InspectPackageTest, JsonHoldsTheNumbers) {
  const json root = json::parse(Describe(SampleProgram(3), true));
  EXPECT_EQ(root["ranks"], 3);
  EXPECT_EQ(root["format_version"], kFormatVersion);
  EXPECT_EQ(root["digest"], Package::Open(folder / "p")->digest());
  EXPECT_EQ(root["flops"], 4.5e9);
  EXPECT_EQ(root["instructions"], (json{{"forward", 3}, {"backward", 0}, {"step", 0}}));
  const json& memory = root["memory"];
  EXPECT_EQ(memory["weights"], 32);
  EXPECT_EQ(memory["buffers"], 16);
  EXPECT_EQ(memory["constants"], 32);
  EXPECT_EQ(memory["inputs"], 72);
  EXPECT_EQ(memory["optimizer"], 32);
  EXPECT_EQ(memory["activations"], 64);
  EXPECT_EQ(memory["gradients"], 64);
  EXPECT_EQ(memory["workspace"], 128);
  EXPECT_EQ(memory["communication"], 0);
  EXPECT_EQ(memory["live_at_peak"], 256);
  EXPECT_EQ(memory["total"], 184 + 256);
  EXPECT_EQ(memory["peak"]["op"], "autosp.all_reduce");
  ASSERT_EQ(root["collectives"].size(), 1u);
  EXPECT_EQ(root["collectives"][0]["bytes"], 32);
  EXPECT_EQ(root["collectives"][0]["reasons"][0]["why"], "gradient of block.w");
  EXPECT_EQ(root["largest"][0]["name"], "mul.workspace");
  EXPECT_EQ(root["largest"][0]["bytes"], 100);
  EXPECT_EQ(root["notes"][0]["bytes"], 4096);
  EXPECT_EQ(root["weights_missing"], json::array());
  EXPECT_EQ(root["blobs"].size(), 4u);
}

TEST_F(InspectPackageTest, WhatTheModelAsksOfItsData) {
  program::ProgramT program = SampleProgram();
  program.inputs[0]->role = program::InputRole::Tokens;
  program.inputs[0]->limit = 50;
  program.label_shift = program::LabelShift::ByModel;
  program.ignores_label = true;
  program.ignore_index = -1;
  const std::string text = Describe(program, false);
  EXPECT_NE(text.find("data: ids (tokens below 50)"), std::string::npos) << text;
  EXPECT_NE(text.find("labels: the model shifts them itself, -1 is ignored"), std::string::npos) << text;
  const json root = json::parse(Describe(program, true));
  EXPECT_EQ(root["inputs"][0]["role"], "tokens");
  EXPECT_EQ(root["inputs"][0]["limit"], 50);
  EXPECT_EQ(root["labels"], "unshifted");
  EXPECT_EQ(root["ignore_index"], -1);
  EXPECT_EQ(json::parse(Describe(SampleProgram(), true))["ignore_index"], nullptr);
}

TEST_F(InspectPackageTest, EqualNotesAreOneLine) {
  program::ProgramT program = SampleProgram();
  for (int i = 0; i < 30; ++i) program.notes.push_back(std::make_unique<program::NoteT>(*program.notes[0]));
  const json root = json::parse(Describe(program, true));
  ASSERT_EQ(root["notes"].size(), 1u);
  EXPECT_EQ(root["notes"][0]["count"], 31);
  EXPECT_EQ(root["notes"][0]["bytes"], 31 * 4096);
}

TEST_F(InspectPackageTest, LongNamesDoNotWidenTheTable) {
  program::ProgramT program = SampleProgram();
  const std::string longer(150, 'x');
  program.name = longer;
  program.storages[8]->name = longer;
  program.storages[8]->source = longer + ":12";
  program.collectives[0]->why = longer;
  program.notes[0]->what = program.notes[0]->why = program.notes[0]->source = longer;
  program.sources[0] = longer;
  ExpectNarrow(Describe(program, false));
}

TEST_F(InspectPackageTest, MissingWeightsAreSaid) {
  EXPECT_NE(Describe(SampleProgram(), false, /*weights=*/false).find("2 parameters and buffers come from autosp-run"), std::string::npos);
  EXPECT_EQ(json::parse(Describe(SampleProgram(), true, false))["weights_missing"], (json{"block.w", "block.table"}));
}

TEST_F(InspectPackageTest, AProgramWithoutArenaOrNotes) {
  program::ProgramT program = SampleProgram();
  program.notes.clear();
  program.collectives.clear();
  program.instructions.clear();
  program.outputs.clear();
  program.tensors.resize(5);
  program.storages.resize(6);
  program.arena_bytes = 0;
  const std::string text = Describe(program, false);
  EXPECT_NE(text.find("Nothing was gathered"), std::string::npos) << text;
  EXPECT_EQ(text.find("peak at"), std::string::npos);
}

TEST_F(InspectPackageTest, OtherPathsAreRefused) {
  EXPECT_EQ(Inspect(folder / "absent", false).error().code, Code::kBadInput);
  EXPECT_EQ(Inspect(folder / ".", false).error().code, Code::kBadInput);
  Spill(folder / "text", "no model");
  EXPECT_EQ(Inspect(folder / "text", false).error().code, Code::kBadInput);
}

import::Model SampleModel() {
  import::Model model;
  ir::Graph& graph = model.graph;
  graph.name = "toy";
  graph.symbols["s1"] = {2, 128};
  graph.symbols["s2"] = {1, -1};
  const ir::ValueId ids = graph.AddInput({.kind = ir::InputKind::kUser, .name = "input_ids"}, "ids", ir::DType::kInt64,
                                         {ir::Expr(2), ir::Expr::Symbol("s1")});
  const ir::ValueId w = graph.AddInput({.kind = ir::InputKind::kParameter, .name = "w", .requires_grad = true}, "w",
                                       ir::DType::kFloat32, {ir::Expr(16), ir::Expr(4)});
  graph.AddInput({.kind = ir::InputKind::kParameter, .name = "v", .requires_grad = false}, "v", ir::DType::kBFloat16, {ir::Expr(8)});
  const ir::ValueId x = graph.Emit("aten.embedding.default", {ir::Arg::Value(w), ir::Arg::Value(ids)}, ir::DType::kFloat32,
                                   {ir::Expr(2), ir::Expr::Symbol("s1"), ir::Expr(4)});
  const ir::ValueId y = graph.Emit("aten.mul.Tensor", {ir::Arg::Value(x), ir::Arg::Value(x)}, ir::DType::kFloat32,
                                   {ir::Expr(2), ir::Expr::Symbol("s1"), ir::Expr(4)});
  const ir::ValueId loss = graph.Emit("aten.mean.default", {ir::Arg::Value(y)}, ir::DType::kFloat32, {});
  graph.outputs.push_back({loss, ir::OutputKind::kLoss, "loss"});
  model.weights["w"] = {};
  model.ties["head.w"] = "w";
  model.torch_version = "2.11.0";
  return model;
}

TEST(InspectModel, Text) {
  const std::string text = DescribeModel(SampleModel(), false);
  ExpectNarrow(text);
  for (const char* part : {"toy: exported by torch 2.11.0, 3 nodes", "input_ids", "i64 [2, s1]", "s1 is from 2 to 128", "s2 is at least 1",
                           "72 elements", "bf16, f32, 1 frozen, 1 without data", "head.w is w", "loss", "1  aten.embedding.default"})
    EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
}

TEST(InspectModel, Json) {
  const json root = json::parse(DescribeModel(SampleModel(), true));
  EXPECT_EQ(root["inputs"][0], (json{{"name", "input_ids"}, {"dtype", "i64"}, {"sizes", {"2", "s1"}}}));
  EXPECT_EQ(root["symbols"]["s1"], (json{{"min", 2}, {"max", 128}}));
  EXPECT_EQ(root["symbols"]["s2"]["max"], json(nullptr));
  EXPECT_EQ(root["parameters"]["count"], 2);
  EXPECT_EQ(root["parameters"]["elements"], 72);
  EXPECT_EQ(root["parameters"]["bytes"], 64 * 4 + 8 * 2);
  EXPECT_EQ(root["parameters"]["frozen"], 1);
  EXPECT_EQ(root["parameters"]["without_data"], 1);
  EXPECT_EQ(root["ops"]["aten.mul.Tensor"], 1);
  EXPECT_EQ(root["outputs"][0]["kind"], "loss");
  EXPECT_EQ(root["ties"]["head.w"], "w");
}

TEST(InspectModel, ExportsOfThisRepository) {
  const std::string path = AUTOSPC_SOURCE_DIR "/models/gpt/gpt.pt2";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << path << " is not here";
  auto text = Inspect(path, false);
  ASSERT_TRUE(text.ok()) << text.error().Format();
  ExpectNarrow(*text);
  EXPECT_NE(text->find("input_ids"), std::string::npos) << *text;
  auto as_json = Inspect(path, true);
  ASSERT_TRUE(as_json.ok());
  EXPECT_GT(json::parse(*as_json)["parameters"]["count"], 4);
}

}  // namespace
}  // namespace autospc
