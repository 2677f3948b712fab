// SPDX-License-Identifier: Apache-2.0
#include "disk/clock_table.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/random.h"

namespace vmstore::disk {
namespace {

Address address(std::uint64_t number) {
  return *Address::make(*KeyId::make(16 + number % 7), BlockIndex{number / 7});
}

TEST(ClockTable, FindsWhatWasInserted) {
  ClockTable table(3);
  EXPECT_EQ(table.use(address(1)), std::nullopt);
  const std::uint32_t place = table.insert(address(1));
  EXPECT_EQ(table.use(address(1)), place);
  EXPECT_TRUE(table.contains(address(1)));
  EXPECT_FALSE(table.contains(address(2)));
  EXPECT_EQ(table.size(), 1U);
}

TEST(ClockTable, AScanPushesOutItselfAndNotWhatIsUsed) {
  ClockTable table(4);
  static_cast<void>(table.insert(address(0)));
  for (std::uint64_t i = 1; i < 1000; ++i) {
    ASSERT_TRUE(table.use(address(0)).has_value()) << i;
    static_cast<void>(table.insert(address(i)));
  }
  EXPECT_EQ(table.size(), 4U);
}

TEST(ClockTable, WhenEverythingIsUsedSomethingIsEvictedAllTheSame) {
  ClockTable table(8);
  for (std::uint64_t i = 0; i < 8; ++i) static_cast<void>(table.insert(address(i)));
  for (std::uint64_t i = 0; i < 8; ++i) static_cast<void>(table.use(address(i)));
  static_cast<void>(table.insert(address(100)));
  EXPECT_TRUE(table.contains(address(100)));
  EXPECT_FALSE(table.contains(address(0)));
}

TEST(ClockTable, APlaceForOneIsATable) {
  ClockTable table(1);
  for (std::uint64_t i = 0; i < 100; ++i) {
    EXPECT_EQ(table.insert(address(i)), 0U);
    EXPECT_EQ(table.use(address(i)), 0U);
    EXPECT_EQ(i > 0 && table.contains(address(i - 1)), false);
  }
}

TEST(ClockTable, ClearedItIsAsNew) {
  ClockTable table(5);
  for (std::uint64_t i = 0; i < 12; ++i) static_cast<void>(table.insert(address(i)));
  table.clear();
  EXPECT_EQ(table.size(), 0U);
  for (std::uint64_t i = 0; i < 12; ++i) EXPECT_FALSE(table.contains(address(i)));
  EXPECT_EQ(table.insert(address(3)), 0U);
}

/// CLOCK as the book has it: a ring that is searched from end to end.
class PlainClock {
 public:
  explicit PlainClock(std::size_t capacity) : capacity_(capacity) {}
  [[nodiscard]] std::optional<std::uint32_t> use(Address wanted) {
    for (std::uint32_t i = 0; i < ring_.size(); ++i) {
      if (ring_[i].first != wanted) continue;
      ring_[i].second = true;
      return i;
    }
    return std::nullopt;
  }
  std::uint32_t insert(Address fresh) {
    if (ring_.size() < capacity_) {
      ring_.emplace_back(fresh, false);
      return static_cast<std::uint32_t>(ring_.size() - 1);
    }
    for (;; hand_ = (hand_ + 1) % ring_.size()) {
      if (!std::exchange(ring_[hand_].second, false)) break;
    }
    const auto place = static_cast<std::uint32_t>(hand_);
    ring_[place] = {fresh, false};
    hand_ = (hand_ + 1) % ring_.size();
    return place;
  }

 private:
  std::size_t capacity_;
  std::size_t hand_ = 0;
  std::vector<std::pair<Address, bool>> ring_;
};

TEST(ClockTable, AgreesWithAPlainRingForManySeeds) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    const auto capacity = static_cast<std::uint32_t>(1 + random.below(40));
    ClockTable table(capacity);
    PlainClock plain(capacity);
    for (int step = 0; step < 400; ++step) {
      const Address wanted = address(random.below(2 * capacity + 3));
      const auto place = table.use(wanted);
      ASSERT_EQ(place, plain.use(wanted)) << "seed " << seed << " step " << step;
      if (!place && random.one_in(2)) {
        ASSERT_EQ(table.insert(wanted), plain.insert(wanted)) << "seed " << seed;
      }
    }
  }
}

}  // namespace
}  // namespace vmstore::disk
