#include "runtime/package/safetensors.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/package/dtype.h"

namespace autospc {
namespace {

using nlohmann::json;

// The reference implementation's own bound on the header.
constexpr int64_t kMaxHeaderBytes = 100'000'000;

Error Bad(const std::string& what, const std::string& path) {
  return {Code::kBadInput, what, path, "is it a safetensors file, complete? get it anew"};
}

Result<std::vector<int64_t>> ReadInts(const json& array, const std::string& where) {
  std::vector<int64_t> values;
  for (const json& item : array) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > INT64_MAX)
      return Bad("a size or offset that is no natural number", where);
    values.push_back(item.get<int64_t>());
  }
  return values;
}

// An entry of the header; offsets are checked against the `data_bytes` after the header.
Result<SafetensorsEntry> ReadEntry(const std::string& name, const json& item, program::DType dtype, int64_t data_start,
                                   int64_t data_bytes, const std::string& path) {
  const std::string where = fmt::format("'{}' in {}", name, path);
  SafetensorsEntry entry{name, dtype, {}, 0, 0};
  ASSIGN_OR_RETURN(const json* shape, JsonArray(item, "shape", where));
  ASSIGN_OR_RETURN(entry.sizes, ReadInts(*shape, where));
  ASSIGN_OR_RETURN(const json* range, JsonArray(item, "data_offsets", where));
  ASSIGN_OR_RETURN(const std::vector<int64_t> offsets, ReadInts(*range, where));
  if (offsets.size() != 2 || offsets[0] > offsets[1])
    return Bad("data_offsets is not a pair [begin, end]", where);
  if (offsets[1] > data_bytes)
    return Bad(fmt::format("tensor data up to byte {}, but the file holds only {}", offsets[1], data_bytes), where);
  const std::optional<int64_t> numel = CheckedNumel(entry.sizes);
  int64_t bytes = 0;
  if (!numel || __builtin_mul_overflow(*numel, ByteSize(entry.dtype), &bytes) || bytes != offsets[1] - offsets[0])
    return Bad(fmt::format("{} {} does not take {} bytes", Name(entry.dtype), FormatSizes(entry.sizes),
                           offsets[1] - offsets[0]), where);
  entry.offset = data_start + offsets[0];
  entry.bytes = bytes;
  return entry;
}

Status ReadMetadata(const json& object, const std::string& path, std::map<std::string, std::string>* metadata) {
  if (!object.is_object()) return Bad("__metadata__ is not an object", path);
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) return Bad(fmt::format("metadata '{}' is not a string", key), path);
    (*metadata)[key] = value.get<std::string>();
  }
  return Ok();
}

}  // namespace

Result<SafetensorsFile> SafetensorsFile::Open(const std::string& path, bool skip_unknown_types) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  return Open(std::move(file), skip_unknown_types);
}

Result<SafetensorsFile> SafetensorsFile::Open(MappedFile mapped, bool skip_unknown_types) {
  SafetensorsFile result;
  result.file_ = std::move(mapped);
  const MappedFile& file = result.file_;
  const std::string& path = file.path();
  uint64_t header_bytes = 0;
  if (file.size() < 8) return Bad(fmt::format("not a safetensors file: it has {} bytes", file.size()), path);
  std::memcpy(&header_bytes, file.data(), 8);
  if (header_bytes > static_cast<uint64_t>(std::min(kMaxHeaderBytes, file.size() - 8)))
    return Bad(fmt::format("not a safetensors file: a header of {} bytes in a file of {}", header_bytes, file.size()),
               path);
  const int64_t data_start = 8 + static_cast<int64_t>(header_bytes);
  ASSIGN_OR_RETURN(const json header, ParseJson(file.text().substr(8, header_bytes), path));
  if (!header.is_object()) return Bad("the header is not an object", path);
  for (const auto& [name, item] : header.items()) {
    if (name == "__metadata__") {
      RETURN_IF_ERROR(ReadMetadata(item, path, &result.metadata_));
      continue;
    }
    const std::string where = fmt::format("'{}' in {}", name, path);
    ASSIGN_OR_RETURN(const std::string type, JsonString(item, "dtype", where));
    const std::optional<program::DType> dtype = FromSafetensorsName(type);
    if (!dtype && skip_unknown_types) continue;
    if (!dtype) return Error{Code::kBadInput, fmt::format("element type '{}' is not supported", type), where, ""};
    ASSIGN_OR_RETURN(SafetensorsEntry entry,
                     ReadEntry(name, item, *dtype, data_start, file.size() - data_start, path));
    result.entries_.push_back(std::move(entry));
  }
  auto& entries = result.entries_;
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return std::tie(a.offset, a.bytes, a.name) < std::tie(b.offset, b.bytes, b.name); });
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0 && entries[i - 1].offset + entries[i - 1].bytes > entries[i].offset)
      return Bad(fmt::format("tensors '{}' and '{}' overlap", entries[i - 1].name, entries[i].name), path);
    result.by_name_[entries[i].name] = i;
  }
  return result;
}

const SafetensorsEntry* SafetensorsFile::Find(std::string_view name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : &entries_[it->second];
}

WeightSource SafetensorsFile::Source(const SafetensorsEntry& entry) const {
  return {entry.name, entry.dtype, entry.sizes, ContiguousStrides(entry.sizes), path(), entry.offset, entry.bytes};
}

}  // namespace autospc
