// Safetensors files as tests write them.
#pragma once

#include <string>
#include <vector>

#include "runtime/data/contract.h"
#include "runtime/package/dtype.h"
#include "runtime/package/safetensors.h"

namespace autospc::data {

struct TestTensor {
  std::string name;
  std::vector<int64_t> sizes;
  std::vector<double> values;
  program::DType dtype = program::DType::Int64;
};

inline std::string Tensors(const std::vector<TestTensor>& tensors) {
  std::vector<std::vector<char>> data;
  std::vector<TensorToWrite> write;
  for (const TestTensor& t : tensors) {
    std::vector<char> bytes(t.values.size() * static_cast<size_t>(ByteSize(t.dtype)));
    for (size_t i = 0; i < t.values.size(); ++i) {
      char* to = bytes.data() + i * static_cast<size_t>(ByteSize(t.dtype));
      if (IsFloat(t.dtype)) {
        (void)ConvertTo(t.dtype, to, program::DType::Float64, &t.values[i], 1);
      } else {
        StoreInteger(t.dtype, to, 0, static_cast<int64_t>(t.values[i]));
      }
    }
    data.push_back(std::move(bytes));
  }
  for (size_t i = 0; i < tensors.size(); ++i)
    write.push_back({tensors[i].name, tensors[i].dtype, tensors[i].sizes, data[i].data(), {}});
  std::string file;
  const Status status = WriteSafetensors(
      [&](const void* bytes, int64_t n) -> Status {
        file.append(static_cast<const char*>(bytes), static_cast<size_t>(n));
        return Ok();
      },
      std::move(write));
  return status.ok() ? file : "";
}

}  // namespace autospc::data
