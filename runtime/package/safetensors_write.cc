#include <algorithm>
#include <set>
#include <tuple>

#include <nlohmann/json.hpp>

#include "runtime/base/json_text.h"
#include "runtime/base/alignment.h"
#include "runtime/package/dtype.h"
#include "runtime/package/safetensors.h"

namespace autospc {
namespace {

using nlohmann::json;


int64_t Bytes(const TensorToWrite& tensor) { return *CheckedNumel(tensor.sizes) * ByteSize(tensor.dtype); }

Status CheckTensors(const std::vector<TensorToWrite>& tensors) {
  std::set<std::string> names;
  for (const TensorToWrite& tensor : tensors) {
    int64_t bytes = 0;
    const std::optional<int64_t> numel = CheckedNumel(tensor.sizes);
    if (!numel || __builtin_mul_overflow(*numel, ByteSize(tensor.dtype), &bytes) || SafetensorsName(tensor.dtype).empty())
      return Error{Code::kFailed, fmt::format("{} {} can't be written to a safetensors file", Name(tensor.dtype),
                                              FormatSizes(tensor.sizes)), tensor.name, ""};
    if (tensor.name == "__metadata__" || !names.insert(tensor.name).second)
      return Error{Code::kFailed, "a tensor name that is taken", tensor.name, "tensors need names of their own"};
  }
  return Ok();
}

Status WriteTensor(const ByteSink& sink, const TensorToWrite& tensor) {
  if (!tensor.produce) return Bytes(tensor) == 0 ? Ok() : sink(tensor.data, Bytes(tensor));
  int64_t written = 0;
  RETURN_IF_ERROR(tensor.produce([&](const void* data, int64_t bytes) {
    written += bytes;
    return sink(data, bytes);
  }));
  if (written != Bytes(tensor))
    return Error{Code::kFailed, fmt::format("{} bytes written for a tensor of {}", written, Bytes(tensor)), tensor.name,
                 ""};
  return Ok();
}

}  // namespace

Status WriteSafetensors(const ByteSink& sink, std::vector<TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata) {
  RETURN_IF_ERROR(CheckTensors(tensors));
  const auto key = [](const TensorToWrite& tensor) {
    return std::make_tuple(Bytes(tensor) % kAlignment != 0, -ByteSize(tensor.dtype), std::string_view(tensor.name));
  };
  std::sort(tensors.begin(), tensors.end(), [&](const auto& a, const auto& b) { return key(a) < key(b); });

  json header = json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  int64_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    const int64_t end = offset + Bytes(tensor);
    header[tensor.name] = {
        {"dtype", SafetensorsName(tensor.dtype)}, {"shape", tensor.sizes}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = JsonText(header);
  text.resize(Aligned(static_cast<int64_t>(text.size()) + 8) - 8, ' ');
  const uint64_t header_bytes = text.size();
  RETURN_IF_ERROR(sink(&header_bytes, 8));
  RETURN_IF_ERROR(sink(text.data(), static_cast<int64_t>(text.size())));
  for (const TensorToWrite& tensor : tensors) RETURN_IF_ERROR(WriteTensor(sink, tensor));
  return Ok();
}

Status WriteSafetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                        const std::map<std::string, std::string>& metadata) {
  ASSIGN_OR_RETURN(FileWriter writer, FileWriter::Create(path));
  RETURN_IF_ERROR(WriteSafetensors([&](const void* data, int64_t bytes) { return writer.Write(data, bytes); },
                                   std::move(tensors), metadata));
  return writer.Commit();
}

TensorToWrite FromSource(const WeightSource& source, std::optional<program::DType> as) {
  const program::DType dtype = as.value_or(source.dtype);
  TensorToWrite tensor{source.name, dtype, source.sizes, nullptr, nullptr};
  tensor.produce = [source, dtype](const ByteSink& sink) -> Status {
    const int64_t bytes = CheckedNumel(source.sizes).value_or(0) * ByteSize(dtype);
    const bool as_is = dtype == source.dtype && source.strides == ContiguousStrides(source.sizes);
    if (as_is && source.offset >= 0 && bytes <= source.bytes) {
      ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(source.file));
      if (source.offset <= file.size() && bytes <= file.size() - source.offset)
        return sink(file.data() + source.offset, bytes);
    }
    std::vector<std::byte> copy(static_cast<size_t>(bytes));  // also the way to ReadWeight's diagnostics
    RETURN_IF_ERROR(ReadWeight(source, dtype, copy.data()));
    return sink(copy.data(), bytes);
  };
  return tensor;
}

}  // namespace autospc
