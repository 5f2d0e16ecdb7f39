#include <cstdint>

#include "runtime/package/checkpoint.h"
#include "runtime/package/dtype.h"
#include "runtime/package/golden.h"
#include "runtime/package/safetensors.h"
#include "runtime/package/tied_embeddings.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/entries.h"

namespace autospc::fuzz {
namespace {

volatile unsigned sink = 0;

// Every byte that an entry names can be read.
void Touch(const void* data, int64_t bytes) {
  unsigned sum = 0;
  for (int64_t i = 0; i < bytes; ++i) sum += static_cast<const unsigned char*>(data)[i];
  sink = sink + sum;
}

// A file's own tensors, asked for under a prefix and with ties, and read as another type.
void ReadAll(const SafetensorsFile& file, const std::string& path) {
  const Result<Checkpoint> checkpoint = Checkpoint::Open(path);
  if (!checkpoint.ok()) return CheckError(checkpoint.error(), {Code::kBadInput});
  std::vector<WantedTensor> wanted;
  for (const SafetensorsEntry& entry : file.entries()) {
    if (entry.bytes <= 1 << 16) wanted.push_back({entry.name, entry.dtype, entry.sizes});
  }
  ResolveOptions options;
  for (size_t i = 1; i < wanted.size(); ++i) options.ties.emplace_back(wanted[i].name, wanted[0].name);
  for (const char* prefix : {"", "model.", "a=b"}) {
    options.prefix = prefix;
    const auto sources = checkpoint->Resolve(wanted, options);
    if (!sources.ok()) {
      CheckError(sources.error(), {Code::kBadInput});
      continue;
    }
    for (size_t i = 0; i < sources->size(); ++i) {
      const std::optional<int64_t> numel = CheckedNumel(wanted[i].sizes);
      if (!numel) Broken("an entry's sizes have a product");
      std::vector<uint8_t> bytes(static_cast<size_t>(*numel * ByteSize(wanted[i].dtype)));
      const Status read = ReadWeight((*sources)[i], wanted[i].dtype, bytes.data());
      if (!read.ok()) CheckError(read.error(), {Code::kBadInput});
    }
  }
}

}  // namespace

void Safetensors(std::string_view bytes) {
  const MemoryFile memory(bytes);
  for (const bool skip : {false, true}) {
    const Result<SafetensorsFile> file = SafetensorsFile::Open(memory.path(), skip);
    if (!file.ok()) {
      CheckError(file.error(), {Code::kBadInput});
      continue;
    }
    for (const SafetensorsEntry& entry : file->entries()) Touch(file->data(entry), entry.bytes);
    ReadAll(*file, memory.path());
  }
  const Result<GoldenFile> golden = GoldenFile::Open(memory.path());
  if (!golden.ok()) return CheckError(golden.error(), {Code::kBadInput});
  for (const auto& tensors : {golden->inputs(), golden->gradients()}) {
    for (const GoldenTensor& t : tensors) Touch(t.data, CheckedNumel(t.sizes).value_or(0) * ByteSize(t.dtype));
  }
}

}  // namespace autospc::fuzz
