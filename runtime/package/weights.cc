#include "runtime/package/weights.h"

#include <optional>

#include "runtime/base/files.h"
#include "runtime/package/dtype.h"
#include "runtime/package/strided.h"

namespace autospc {
namespace {

// Elements from the first to the last one read, plus one; nullopt if that overflows or a stride is negative.
std::optional<int64_t> Extent(const WeightSource& source) {
  int64_t extent = 1;
  for (size_t d = 0; d < source.sizes.size(); ++d) {
    int64_t step = 0;
    if (source.strides[d] < 0 || __builtin_mul_overflow(source.sizes[d] - 1, source.strides[d], &step) ||
        __builtin_add_overflow(extent, step, &extent))
      return std::nullopt;
  }
  return extent;
}

}  // namespace

Status ReadWeight(const WeightSource& source, program::DType dtype, void* out) {
  const std::string where = fmt::format("'{}' in {}", source.name, source.file);
  const std::optional<int64_t> numel = CheckedNumel(source.sizes);
  if (!numel || source.strides.size() != source.sizes.size())
    return Error{Code::kBadInput, fmt::format("tensor with sizes {}", FormatSizes(source.sizes)), where, ""};
  if (*numel == 0) return Ok();
  const std::optional<int64_t> extent = Extent(source);
  int64_t needed = 0;
  if (!extent || __builtin_mul_overflow(*extent, ByteSize(source.dtype), &needed) || needed > source.bytes)
    return Error{Code::kBadInput, fmt::format("tensor of sizes {} with only {} bytes of data", FormatSizes(source.sizes),
                                              source.bytes), where, "the file is cut off or damaged; get it anew"};
  ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(source.file));
  int64_t end = 0;
  if (source.offset < 0 || __builtin_add_overflow(source.offset, needed, &end) || end > file.size())
    return Error{Code::kBadInput, fmt::format("tensor data up to byte {} in a file of {} bytes", end, file.size()), where,
                 "the file is cut off or damaged; get it anew"};
  Status status = Ok();
  char* to = static_cast<char*>(out);
  ForEachRun(source.sizes, source.strides, [&](int64_t position, int64_t count) {
    const std::byte* from = file.data() + source.offset + position * ByteSize(source.dtype);
    status = ConvertTo(dtype, to, source.dtype, from, count);
    to += count * ByteSize(dtype);
    return status.ok();
  });
  if (!status.ok()) status.error().where = where;
  return status;
}

}  // namespace autospc
