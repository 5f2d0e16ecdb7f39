#include "runtime/package/seeded_init.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "runtime/package/dtype.h"

namespace autospc {
namespace {

uint64_t Mix(uint64_t x) {  // splitmix64's finaliser (Steele, Lea, Flood 2014)
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

uint64_t HashOf(std::string_view name) {  // FNV-1a
  uint64_t hash = 0xCBF29CE484222325u;
  for (unsigned char c : name) hash = (hash ^ c) * 0x100000001B3u;
  return hash;
}

double Uniform(uint64_t bits) { return (static_cast<double>(bits >> 11) + 0.5) / 9007199254740992.0; }  // (0, 1)

double Normal(uint64_t stream, uint64_t index) {  // Box-Muller, one of the pair
  const double radius = std::sqrt(-2 * std::log(Uniform(Mix(stream ^ Mix(2 * index)))));
  return radius * std::cos(2 * std::numbers::pi * Uniform(Mix(stream ^ Mix(2 * index + 1))));
}

}  // namespace

Status FillSeeded(uint64_t seed, program::StorageKind kind, std::string_view name, program::DType dtype,
                  const std::vector<int64_t>& sizes, void* out) {
  int64_t count = 1;
  for (int64_t s : sizes) count *= s;
  if (!IsFloat(dtype)) {
    if (!name.ends_with("num_batches_tracked")) {
      return Error{Code::kBadInput,
                   fmt::format("no seed can make the data of \"{}\", which holds {}", name, Name(dtype)), "",
                   "give --weights, or export the model with its buffers"};
    }
    std::fill_n(static_cast<char*>(out), count * ByteSize(dtype), 0);
    return Ok();
  }
  const bool parameter = kind == program::StorageKind::Parameter;
  const bool random = parameter && sizes.size() >= 2;
  const double value = parameter ? (name.ends_with("bias") ? 0 : 1) : (name.ends_with("var") ? 1 : 0);
  const uint64_t stream = Mix(seed) ^ HashOf(name);
  constexpr int64_t kPiece = 1024;
  double piece[kPiece];
  for (int64_t start = 0; start < count; start += kPiece) {
    const int64_t n = std::min(kPiece, count - start);
    for (int64_t i = 0; i < n; ++i) piece[i] = random ? 0.02 * Normal(stream, static_cast<uint64_t>(start + i)) : value;
    RETURN_IF_ERROR(
        ConvertTo(dtype, static_cast<char*>(out) + start * ByteSize(dtype), program::DType::Float64, piece, n));
  }
  return Ok();
}

}  // namespace autospc
