// A seeded permutation of [0, n) that is computed, not held: element i of a shuffled order in constant time and space.
//
// A Feistel network over the next even number of bits, walked until the value falls below n (cycle walking: Black and
// Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002). The domain is below 4 n, so a value takes fewer than
// four rounds on average. The same on every machine.
#pragma once

#include <cstdint>

namespace autospc::data {

class Permutation {
 public:
  // Of 1 <= n <= 2^62 elements.
  Permutation(int64_t n, uint64_t seed);
  int64_t size() const { return n_; }
  int64_t operator()(int64_t i) const;  // 0 <= i < n

 private:
  uint64_t Encrypt(uint64_t x) const;
  int64_t n_;
  int half_bits_;
  uint64_t key_;
};

// A seed of its own for each epoch.
uint64_t EpochSeed(uint64_t seed, int64_t epoch);

}  // namespace autospc::data
