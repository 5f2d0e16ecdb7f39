// Makes the corpus of tests/fuzz anew: make_corpus FOLDER [PACKAGE...]
//
// From the packages, of one rank, come the programs: one a kind of instruction, with nothing but that instruction and
// what it reads and writes. The rest is made here. Reproducible: the same packages give the same files.
#include <fmt/format.h>

#include <cctype>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "runtime/base/files.h"
#include "runtime/base/sha256.h"
#include "runtime/package/dtype.h"
#include "runtime/package/oci.h"
#include "runtime/package/validate.h"
#include "tests/fuzz/package_files.h"
#include "tests/import/pt2_builder.h"
#include "tests/import/rich_model.h"
#include "tests/package/sample.h"

namespace autospc::fuzz {
namespace {

namespace fs = std::filesystem;

std::string Pack(const program::ProgramT& program) {
  flatbuffers::FlatBufferBuilder builder;
  program::FinishProgramBuffer(builder, program::Program::Pack(builder, &program));
  return {reinterpret_cast<const char*>(builder.GetBufferPointer()), builder.GetSize()};
}

// The program with the instructions from `first` on, `count` of them, alone; indices made new.
program::ProgramT Only(const program::ProgramT& whole, size_t first, size_t count) {
  program::ProgramT p;
  p.format_version = whole.format_version;
  p.name = "one";
  p.world_size = 1;
  p.device = "cpu";
  std::map<int64_t, int> tensors, storages;
  const auto storage = [&](int64_t i) {
    if (i < 0) return -1;
    const auto [it, fresh] = storages.try_emplace(i, static_cast<int>(p.storages.size()));
    if (!fresh) return it->second;
    auto s = std::make_unique<program::StorageT>(*whole.storages[static_cast<size_t>(i)]);
    s->first = s->last = 0;
    s->source.clear();
    s->name = fmt::format("s{}", it->second);
    if (s->arena_offset >= 0) {
      s->arena_offset = p.arena_bytes;
      p.arena_bytes += (s->bytes + 63) / 64 * 64;
    }
    p.storages.push_back(std::move(s));
    return it->second;
  };
  const auto tensor = [&](int64_t i) {
    if (i < 0) return -1;
    const auto [it, fresh] = tensors.try_emplace(i, static_cast<int>(p.tensors.size()));
    if (!fresh) return it->second;
    auto t = std::make_unique<program::TensorT>(*whole.tensors[static_cast<size_t>(i)]);
    t->storage = storage(t->storage);
    t->name.clear();
    p.tensors.push_back(std::move(t));
    return it->second;
  };
  for (size_t n = first; n < first + count; ++n) {
    auto instruction = std::make_unique<program::InstructionT>(*whole.instructions[n]);
    instruction->source = -1;
    for (int& output : instruction->outputs) output = tensor(output);
    for (auto& arg : instruction->args) {
      if (arg->kind == program::ArgKind::Tensor) arg->tensor = tensor(arg->tensor);
      if (arg->kind != program::ArgKind::TensorList) continue;
      for (int64_t& i : arg->ints) i = tensor(i);
    }
    instruction->workspace = storage(instruction->workspace);
    p.instructions.push_back(std::move(instruction));
  }
  return p;
}

Status Write(const fs::path& folder, const std::string& name, const std::string& bytes) {
  fs::create_directories(folder);
  return WriteFileAtomically((folder / name).string(), bytes, /*durable=*/false);
}

std::string FileName(std::string text) {
  for (char& c : text) c = std::isalnum(static_cast<unsigned char>(c)) ? c : '_';
  return text;
}

constexpr size_t kMostBytes = 6000;  // of one program: a fuzzer is as slow as its inputs are long

Status Programs(const fs::path& folder, const std::vector<std::string>& packages) {
  std::set<std::string> seen;
  for (const std::string& path : packages) {
    ASSIGN_OR_RETURN(const autospc::Package package, autospc::Package::Open(path));
    const program::ProgramT& whole = package.program();
    for (size_t n = 0; n < whole.instructions.size(); ++n) {
      const std::string& op = whole.instructions[n]->op;
      const std::string bytes = Pack(Only(whole, n, 1));
      if (bytes.size() > kMostBytes || !seen.insert(op).second) continue;
      RETURN_IF_ERROR(Write(folder / "executor", FileName(op), bytes));
    }
  }
  return Write(folder / "program", "sample", Pack(SampleProgram()));
}

Status Packages(const fs::path& folder) {
  const TempFolder temporary;
  const std::string path = temporary / "p";
  RETURN_IF_ERROR(WritePackage(SampleProgram(1), SampleContents(temporary), path));
  ASSIGN_OR_RETURN(const PackageParts parts, ReadPackageParts(path));
  return Write(folder / "package", "sample", JoinPackage(parts));
}

Status Exports(const fs::path& folder) {
  RETURN_IF_ERROR(Write(folder / "pt2", "small", import::testing::Zip(import::testing::SmallModel().Members())));
  RETURN_IF_ERROR(Write(folder / "pt2", "attention", import::testing::Zip(import::testing::AttentionModel().Members())));
  return Write(folder / "pt2", "rich", import::testing::Zip(import::testing::RichModel().Members()));
}

Status Tensors(const fs::path& folder) {
  const TempFolder temporary;
  const std::vector<double> data(16, 1.5);
  const std::vector<int64_t> ids = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
  using program::DType;
  const std::vector<std::pair<std::string, std::vector<TensorToWrite>>> files = {
      {"golden", {{"loss", DType::Float64, {}, data.data(), nullptr},
                  {"grad.w", DType::Float32, {4, 3}, data.data(), nullptr},
                  {"in.x", DType::Int64, {2}, data.data(), nullptr}}},
      {"checkpoint", {{"model.wte.weight", DType::BFloat16, {4, 2}, data.data(), nullptr},
                      {"model.h.0.weight", DType::Float16, {2, 2, 2}, data.data(), nullptr},
                      {"model.empty", DType::Bool, {0, 7}, data.data(), nullptr}}},
      {"batch", {{"input_ids", DType::Int64, {2, 5}, ids.data(), nullptr}, {"labels", DType::Int64, {2, 5}, ids.data(), nullptr}}}};
  for (const auto& [name, tensors] : files) {
    RETURN_IF_ERROR(WriteSafetensors(temporary / name, tensors, {{"tied", "w,v"}}));
    ASSIGN_OR_RETURN(const std::string bytes, ReadFile(temporary / name, 1 << 20));
    RETURN_IF_ERROR(Write(folder / "safetensors", name, bytes));
    if (name == "batch") RETURN_IF_ERROR(Write(folder / "tokens", name, "\x03" + bytes));
  }
  // Bare tokens, and llm.c's file of 12.
  std::string bare("\x27", 1), header(1024, '\0');
  for (int i = 0; i < 40; ++i) bare += std::string({static_cast<char>(i), '\0'});
  const int32_t words[] = {20240520, 1, 12};
  std::memcpy(header.data(), words, sizeof(words));
  RETURN_IF_ERROR(Write(folder / "tokens", "bare", bare));
  return Write(folder / "tokens", "llmc", "\x1f" + header + bare.substr(1, 24));
}

Status Make(const fs::path& folder, const std::vector<std::string>& packages) {
  RETURN_IF_ERROR(Programs(folder, packages));
  RETURN_IF_ERROR(Packages(folder));
  RETURN_IF_ERROR(Exports(folder));
  return Tensors(folder);
}

}  // namespace
}  // namespace autospc::fuzz

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const autospc::Status made = autospc::fuzz::Make(argv[1], {argv + 2, argv + argc});
  if (!made.ok()) std::fprintf(stderr, "%s\n", made.error().Format().c_str());
  return made.ok() ? 0 : 1;
}
