#include "runtime/data/permutation.h"

#include <algorithm>
#include <bit>

namespace autospc::data {
namespace {

// The finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

}  // namespace

Permutation::Permutation(int64_t n, uint64_t seed) : n_(n), key_(Mix(seed)) {
  const int bits = std::bit_width(static_cast<uint64_t>(n - 1));
  half_bits_ = std::max(1, (bits + 1) / 2);
}

uint64_t Permutation::Encrypt(uint64_t x) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = x >> half_bits_, right = x & mask;
  constexpr uint64_t kRounds = 6;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t next = left ^ (Mix(key_ ^ Mix(right * kRounds + round)) & mask);
    left = right;
    right = next;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t i) const {
  auto x = static_cast<uint64_t>(i);
  do {
    x = Encrypt(x);
  } while (x >= static_cast<uint64_t>(n_));
  return static_cast<int64_t>(x);
}

uint64_t EpochSeed(uint64_t seed, int64_t epoch) { return Mix(seed ^ Mix(static_cast<uint64_t>(epoch))); }

}  // namespace autospc::data
