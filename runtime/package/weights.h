// Where the bytes of a parameter, buffer or constant lie: in an export (.pt2), a safetensors file, …
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/package/program_generated.h"

namespace autospc {

// A strided view of raw little-endian elements in `file`: element (i0, i1, …) is at byte
// offset + (i0 * strides[0] + i1 * strides[1] + …) * size of the dtype. A storage offset is already in
// `offset`; `bytes` is what may be read from there on (the rest of the storage).
struct WeightSource {
  std::string name;  // the checkpoint's: "model.embed_tokens.weight"
  program::DType dtype = program::DType::Float32;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;  // in elements
  std::string file;
  int64_t offset = 0;
  int64_t bytes = 0;
};

// Copies the source to `out`, contiguous and row-major, as elements of `dtype` (`out` holds numel of
// them). Any float type becomes any other; other types only themselves. kBadInput: the file is missing or
// shorter than the view, or the types don't convert.
Status ReadWeight(const WeightSource& source, program::DType dtype, void* out);

}  // namespace autospc
