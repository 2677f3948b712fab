// SPDX-License-Identifier: Apache-2.0
#include "base/random.h"

#include <gtest/gtest.h>

#include <set>

namespace vmstore {
namespace {

/// What a SplitMix64 generator gives after `value`: its output function is a bijection.
std::uint64_t next_after(std::uint64_t value) {
  std::uint64_t z = value;
  z ^= z >> 31 ^ z >> 62;
  z *= 0x319642b2d24d8ec3U;
  z ^= z >> 27 ^ z >> 54;
  z *= 0x96de1b173f119089U;
  z ^= z >> 30 ^ z >> 60;
  return Random(z).u64();
}

TEST(Random, EqualSeedsGiveEqualIds) {
  Random one(7);
  Random two(7);
  EXPECT_EQ(one.id128<DiskId>(), two.id128<DiskId>());
}

TEST(Random, SystemIdsHaveMoreThanTheGeneratorsState) {
  Random seeded(7);
  const auto weak = seeded.id128<DiskId>();
  ASSERT_EQ(weak.low, next_after(weak.high));
  Random random = Random::from_system();
  std::set<DiskId> ids;
  for (int i = 0; i < 100; ++i) {
    const auto id = random.id128<DiskId>();
    EXPECT_NE(id.low, next_after(id.high));
    ids.insert(id);
  }
  EXPECT_EQ(ids.size(), 100U);
}

}  // namespace
}  // namespace vmstore
