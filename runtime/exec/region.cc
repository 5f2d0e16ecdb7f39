#include "runtime/exec/region.h"

#include <sys/mman.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "runtime/base/bytes.h"

namespace autospc::exec {

Result<Region> Region::Map(int64_t bytes, const char* what) {
  Region region;
  if (bytes == 0) return region;
#ifdef AUTOSPC_FUZZ
  // On the heap, whose guards say where a kernel leaves the region.
  region.data_ = static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>((bytes + 63) / 64 * 64)));
  if (region.data_ == nullptr) return Error{Code::kDoesNotFit, "no memory", what, ""};
  std::memset(region.data_, 0, static_cast<size_t>(bytes));
  region.bytes_ = bytes;
  return region;
#endif
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return Error{Code::kDoesNotFit,
                 fmt::format("no memory for {} ({}): {}", what, FormatBytes(bytes), std::strerror(errno)), "",
                 "see ulimit -v and ulimit -d, or compile for more ranks or a shorter sequence"};
  }
  region.data_ = static_cast<std::byte*>(data);
  region.bytes_ = bytes;
  return region;
}

Region::Region(Region&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Region& Region::operator=(Region&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

Region::~Region() {
#ifdef AUTOSPC_FUZZ
  std::free(data_);
#else
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
#endif
}

}  // namespace autospc::exec
