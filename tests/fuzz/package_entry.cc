#include <cstring>

#include "runtime/package/oci.h"
#include "tests/fuzz/check.h"
#include "tests/fuzz/entries.h"
#include "tests/fuzz/json_mutation.h"
#include "tests/fuzz/package_files.h"
#include "tests/package/temp_folder.h"

namespace autospc::fuzz {
namespace {

volatile unsigned package_sink = 0;

}  // namespace

void Package(std::string_view bytes) {
  const TempFolder folder;
  WritePackageParts(SplitPackage(bytes), folder / "p");
  const auto package = autospc::Package::Open(folder / "p");
  if (!package.ok()) return CheckError(package.error(), {Code::kBadInput});
  unsigned sum = 0;
  for (const auto& storage : package->program().storages) {
    const StoredTensor stored = package->Find(storage->name);
    for (int64_t i = 0; i < stored.bytes; ++i) sum += static_cast<unsigned>(stored.data[i]);
  }
  package_sink = sum + static_cast<unsigned>(package->MissingWeights().size());
  if (!package->VerifyData().ok()) Broken("data that was verified has its digests");
}

size_t MutatePackage(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  PackageParts parts = SplitPackage({reinterpret_cast<const char*>(data), size});
  std::mt19937 random(seed);
  const size_t part = random() % parts.size();
  std::string& text = parts[part];
  if (part < 4) {
    nlohmann::json document = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (document.is_discarded()) return 0;
    JsonMutator(random()).Run(&document);
    text = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  } else if (part == 4) {
    std::string changed = text;
    changed.resize(text.size() + 4096);
    changed.resize(MutateProgram(reinterpret_cast<uint8_t*>(changed.data()), text.size(), changed.size(), random()));
    if (changed.empty()) return 0;
    text = changed;
  } else if (text.size() > 8) {
    // The header of a safetensors file, its length made right again.
    uint64_t header = 0;
    std::memcpy(&header, text.data(), 8);
    if (header > text.size() - 8) return 0;
    nlohmann::json document = nlohmann::json::parse(text.substr(8, header), nullptr, /*allow_exceptions=*/false);
    if (document.is_discarded()) return 0;
    JsonMutator(random()).Run(&document);
    const std::string changed = document.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    const uint64_t length = changed.size();
    std::string made(reinterpret_cast<const char*>(&length), 8);
    text = made + changed + text.substr(8 + header);
  }
  const std::string made = JoinPackage(parts);
  if (made.size() > max_size) return 0;
  std::memcpy(data, made.data(), made.size());
  return made.size();
}

}  // namespace autospc::fuzz
