#include "runtime/exec/philox.h"

#include <gtest/gtest.h>

namespace autospc::exec {
namespace {

TEST(Philox, KnownAnswers) {
  // From Random123's kat_vectors: philox4x32, 10 rounds.
  using Words = std::array<uint32_t, 4>;
  EXPECT_EQ(Philox4x32({0, 0, 0, 0}, {0, 0}), (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(Philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, UniformNumbersDependOnSeedSiteAndElement) {
  EXPECT_NE(Uniform(1, 0, 5), Uniform(2, 0, 5));
  EXPECT_NE(Uniform(1, 0, 5), Uniform(1, 1, 5));
  EXPECT_NE(Uniform(1, 0, 5), Uniform(1, 0, 6));
  EXPECT_NE(Uniform(1, 0, 5), Uniform(1, 0, 5 + (int64_t{1} << 34)));
  double sum = 0;
  for (int64_t i = 0; i < 10000; ++i) {
    const float u = Uniform(9, 9, i);
    ASSERT_TRUE(u >= 0 && u < 1);
    sum += u;
  }
  EXPECT_NEAR(sum / 10000, 0.5, 0.015);  // five standard deviations of the mean
}

}  // namespace
}  // namespace autospc::exec
