// The counter-based generator of dropout: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011). A number depends on (seed, site, element) alone, so that every rank, every P, every order
// of evaluation and every recomputation draws the same mask.
#pragma once

#include <array>
#include <cstdint>

namespace autospc::exec {

// One block of the generator: four 32-bit words.
inline std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53} * counter[0];
    const uint64_t b = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(a)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// Four neighbouring elements (4*block … 4*block + 3) of a site's stream.
inline std::array<uint32_t, 4> PhiloxBlock(uint64_t seed, int64_t site, uint64_t block) {
  const auto where = static_cast<uint64_t>(site);
  return Philox4x32({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), static_cast<uint32_t>(where),
                     static_cast<uint32_t>(where >> 32)},
                    {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
}

// A word as a float in [0, 1): its upper 24 bits.
inline float UniformFromWord(uint32_t word) { return static_cast<float>(word >> 8) * (1.0f / (1 << 24)); }

// The number of one element: uniform in [0, 1). Dropout of probability p keeps the element where it is >= p.
inline float Uniform(uint64_t seed, int64_t site, int64_t index) {
  const auto element = static_cast<uint64_t>(index);
  return UniformFromWord(PhiloxBlock(seed, site, element >> 2)[element & 3]);
}

}  // namespace autospc::exec
