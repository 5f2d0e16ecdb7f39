// Memory straight from the system: zero pages that are taken when they are first touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "runtime/base/result.h"

namespace autospc::exec {

// An anonymous private mapping. Moves; unmaps at its end.
class Region {
 public:
  // kDoesNotFit if the system refuses; an empty region for 0 bytes.
  static Result<Region> Map(int64_t bytes, const char* what);
  Region() = default;
  Region(Region&& other) noexcept;
  Region& operator=(Region&& other) noexcept;
  ~Region();

  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  std::span<std::byte> span() const { return {data_, static_cast<size_t>(bytes_)}; }

 private:
  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace autospc::exec
