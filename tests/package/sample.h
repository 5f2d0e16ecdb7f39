// A small program and its data, as a compiler would make them: y = w * x + c, a gradient and an SGD step.
#pragma once

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "runtime/package/oci.h"
#include "tests/package/temp_folder.h"

namespace autospc {

inline program::ProgramT SampleProgram(int ranks = 2) {
  using program::ArgKind;
  using program::DType;
  using program::StorageKind;
  program::ProgramT p;
  p.format_version = kFormatVersion;
  p.name = "sample";
  p.world_size = ranks;
  p.seq_len = 4;
  p.batch = 2;
  p.strategy = "ulysses";
  p.optimizer = "sgd";
  p.device = "cpu";
  p.arena_bytes = 256;
  p.flops = 4.5e9;
  p.compiler = "autospc test";
  p.options = "{}";
  p.sources = {"model.py:12", "model.py:13"};
  auto storage = [&](StorageKind kind, int64_t bytes, int64_t offset, std::string name, int first = 0, int last = 0) {
    auto s = std::make_unique<program::StorageT>();
    s->kind = kind;
    s->bytes = bytes;
    s->arena_offset = offset;
    s->name = std::move(name);
    s->first = first;
    s->last = last;
    s->source = kind > StorageKind::Optimizer ? "model.py:12" : "";
    p.storages.push_back(std::move(s));
  };
  auto tensor = [&](DType dtype, std::vector<int64_t> sizes, std::vector<int64_t> strides, int in, std::string name) {
    auto t = std::make_unique<program::TensorT>();
    t->dtype = dtype;
    t->sizes = std::move(sizes);
    t->strides = std::move(strides);
    t->storage = in;
    t->name = std::move(name);
    p.tensors.push_back(std::move(t));
  };
  storage(StorageKind::Parameter, 32, -1, "block.w");
  storage(StorageKind::Buffer, 16, -1, "block.table");
  storage(StorageKind::Constant, 32, -1, "c0");
  storage(StorageKind::Input, 64, -1, "ids");
  storage(StorageKind::Optimizer, 32, -1, "block.w.momentum");
  storage(StorageKind::Input, 8, -1, "lr");
  storage(StorageKind::Activation, 32, 0, "y", 0, 1);
  storage(StorageKind::Gradient, 32, 64, "dw", 1, 2);
  storage(StorageKind::Workspace, 100, 128, "mul.workspace", 1, 1);
  tensor(DType::Float32, {2, 4}, {4, 1}, 0, "w");
  tensor(DType::Float32, {4}, {1}, 1, "table");
  tensor(DType::Float32, {8}, {1}, 2, "c0");
  tensor(DType::Int64, {2, 4}, {4, 1}, 3, "ids");
  tensor(DType::Float64, {}, {}, 5, "lr");
  tensor(DType::Float32, {4, 2}, {1, 4}, 6, "y");  // transposed: still within its storage
  tensor(DType::Float32, {2, 4}, {4, 1}, 7, "dw");
  auto arg = [](ArgKind kind, int index) {
    auto a = std::make_unique<program::ArgT>();
    a->kind = kind;
    if (kind == ArgKind::Tensor) a->tensor = index;
    if (kind == ArgKind::TensorList) a->ints = {index, -1};
    return a;
  };
  auto instruction = [&](std::string op, std::vector<int> outputs, std::vector<std::unique_ptr<program::ArgT>> args) {
    auto n = std::make_unique<program::InstructionT>();
    n->op = std::move(op);
    n->outputs = std::move(outputs);
    n->args = std::move(args);
    n->source = 0;
    p.instructions.push_back(std::move(n));
  };
  std::vector<std::unique_ptr<program::ArgT>> args;
  args.push_back(arg(ArgKind::Tensor, 0));
  args.push_back(arg(ArgKind::TensorList, 2));
  instruction("aten.mul.Tensor", {5}, std::move(args));
  args.clear();
  args.push_back(arg(ArgKind::Tensor, 5));
  instruction("autosp.all_reduce", {6}, std::move(args));
  p.instructions.back()->workspace = 8;
  args.clear();
  args.push_back(arg(ArgKind::Tensor, 0));
  args.push_back(arg(ArgKind::Tensor, 6));
  instruction("autosp.sgd_", {}, std::move(args));
  p.inputs.push_back(std::make_unique<program::InputT>());
  p.inputs.back()->name = "ids";
  p.inputs.back()->tensor = 3;
  p.inputs.back()->seq_dim = 1;
  p.scalars.push_back(std::make_unique<program::ScalarT>());
  p.scalars.back()->name = "lr";
  p.scalars.back()->tensor = 4;
  p.outputs.push_back(std::make_unique<program::OutputT>());
  p.outputs.back()->kind = program::OutputKind::Gradient;
  p.outputs.back()->name = "block.w";
  p.outputs.back()->tensor = 6;
  p.outputs.back()->after = 1;
  p.collectives.push_back(std::make_unique<program::CollectiveT>());
  p.collectives.back()->op = "autosp.all_reduce";
  p.collectives.back()->instruction = 1;
  p.collectives.back()->bytes = 32;
  p.collectives.back()->why = "gradient of block.w";
  p.notes.push_back(std::make_unique<program::NoteT>());
  p.notes.back()->what = "aten.sort.default";
  p.notes.back()->why = "no partition rule";
  p.notes.back()->source = "model.py:13";
  p.notes.back()->bytes = 4096;
  p.aliases = {"head.w", "block.w"};
  p.tie_candidates = {"out.w", "block.w"};
  return p;
}

// Weights in a raw file of `folder`, behind a few bytes that are not theirs: w transposed in its file, table in
// float64; constants in a file and none from memory.
inline PackageContents SampleContents(const TempFolder& folder) {
  std::vector<float> w(8), c(8);
  std::iota(w.begin(), w.end(), 1.0f);
  std::iota(c.begin(), c.end(), 100.0f);
  const std::vector<double> table = {0.5, 1.5, 2.5, 3.5};
  auto bytes = [](const auto& v) { return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(v[0])); };
  Spill(folder / "data.bin", "12345678" + bytes(w) + bytes(table) + bytes(c));
  PackageContents contents;
  contents.weights.push_back({"block.w", program::DType::Float32, {2, 4}, {1, 2}, folder / "data.bin", 8, 32});
  contents.weights.push_back({"block.table", program::DType::Float64, {4}, {1}, folder / "data.bin", 40, 32});
  contents.constants.push_back({"c0", program::DType::Float32, {8}, {1}, folder / "data.bin", 72, 32});
  return contents;
}

}  // namespace autospc
