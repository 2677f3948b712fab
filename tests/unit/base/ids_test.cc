// SPDX-License-Identifier: Apache-2.0
#include "base/ids.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <string>
#include <unordered_set>

namespace vmstore {
namespace {

constexpr std::uint64_t kTwo31 = std::uint64_t{1} << 31;
constexpr std::uint64_t kTwo33 = std::uint64_t{1} << 33;
constexpr std::uint64_t kTwo63 = std::uint64_t{1} << 63;
constexpr std::uint64_t kMax = ~std::uint64_t{0};
constexpr std::array kBorders{
    std::uint64_t{0}, std::uint64_t{1}, kTwo31 - 1, kTwo31, kTwo33 - 1, kTwo33, kTwo63, kMax};

TEST(KeyId, ExistsOnlyWithin33Bits) {
  for (const std::uint64_t number : kBorders) {
    const auto key = KeyId::make(number);
    EXPECT_EQ(key.has_value(), number < kTwo33) << number;
    if (key) {
      EXPECT_EQ(key->value(), number);
    }
  }
}

TEST(KeyId, TheFirstSixteenAreReserved) {
  EXPECT_TRUE(KeyId::make(0)->is_none());
  EXPECT_FALSE(KeyId::make(1)->is_none());
  EXPECT_FALSE(KeyId::make(15)->is_usable());
  EXPECT_TRUE(KeyId::make(16)->is_usable());
  EXPECT_TRUE(KeyId::make(kTwo33 - 1)->is_usable());
}

TEST(KeyId, HexIsNineDigits) {
  EXPECT_EQ(KeyId().hex(), "000000000");
  EXPECT_EQ(KeyId::make(0xabc)->hex(), "000000abc");
  EXPECT_EQ(KeyId::make(kTwo33 - 1)->hex(), "1ffffffff");
}

TEST(Address, ExistsOnlyWithinA31BitSectorOffset) {
  const KeyId key = *KeyId::make(kTwo33 - 1);
  for (const std::uint64_t block : kBorders) {
    EXPECT_EQ(Address::make(key, {block}).has_value(), block < kTwo31 / 8) << block;
  }
  EXPECT_TRUE(Address::make(key, {BlockIndex::kEnd - 1}));
  EXPECT_FALSE(Address::make(key, {BlockIndex::kEnd}));
}

TEST(Address, GivesBackKeyAndBlockAtEveryBorder) {
  for (const std::uint64_t number : {std::uint64_t{16}, kTwo31 - 1, kTwo31, kTwo33 - 1}) {
    for (const std::uint64_t block : {std::uint64_t{0}, std::uint64_t{1}, BlockIndex::kEnd - 1}) {
      const Address address = *Address::make(*KeyId::make(number), {block});
      EXPECT_EQ(address.key().value(), number);
      EXPECT_EQ(address.block().value, block);
      EXPECT_EQ(address.slot(), 0U);
      EXPECT_FALSE(address.is_unmapped());
      EXPECT_EQ(Address::from_raw(address.raw()), address);
    }
  }
}

TEST(Address, OfEveryBitPatternHasAKeyAndABlockInRange) {
  for (const std::uint64_t raw : kBorders) {
    const Address address = Address::from_raw(raw);
    EXPECT_LT(address.key().value(), KeyId::kEnd);
    EXPECT_LT(address.block().value, BlockIndex::kEnd);
    EXPECT_LT(address.slot(), 8U);
  }
  EXPECT_EQ(Address::from_raw(kMax).slot(), 7U);
}

TEST(Address, ZeroIsUnmapped) {
  EXPECT_TRUE(Address().is_unmapped());
  EXPECT_TRUE(Address::from_raw(0).is_unmapped());
}

TEST(Address, PlusMovesByWholeBlocks) {
  const Address first = *Address::make(*KeyId::make(77), {5});
  EXPECT_EQ(first.plus(0), first);
  EXPECT_EQ(first.plus(3), *Address::make(*KeyId::make(77), {8}));
  EXPECT_EQ(first.plus(BlockIndex::kEnd - 6).key(), first.key());
}

TEST(Number, KindsDoNotMixAndOrderByValue) {
  static_assert(!std::is_convertible_v<Sequence, Epoch>);
  static_assert(!std::is_convertible_v<std::uint64_t, Sequence>);
  EXPECT_LT(Sequence(kTwo31 - 1), Sequence(kTwo31));
  EXPECT_EQ(Sequence(kTwo33 - 1).next(), Sequence(kTwo33));
  EXPECT_EQ(Sequence().value, 0U);
}

TEST(Id128, HexAndBack) {
  const DiskId id{0x0123456789abcdefU, 0xfedcba9876543210U};
  EXPECT_EQ(id.hex(), "0123456789abcdeffedcba9876543210");
  EXPECT_EQ(DiskId::parse(id.hex()), id);
  EXPECT_EQ(DiskId::parse(DiskId{kMax, kMax}.hex()), (DiskId{kMax, kMax}));
  EXPECT_TRUE(DiskId().is_none());
  EXPECT_FALSE((DiskId{0, 1}.is_none()));
}

TEST(Id128, ParseRefusesAllButThirtyTwoHexDigits) {
  const std::string good(32, 'a');
  EXPECT_TRUE(StoreId::parse(good));
  for (const std::string& bad : {std::string(),
                                 good + "a",
                                 good.substr(1),
                                 "0x" + good.substr(2),
                                 "-" + good.substr(1),
                                 "+" + good.substr(1),
                                 " " + good.substr(1),
                                 good.substr(0, 15) + "g" + good.substr(16),
                                 good.substr(0, 31) + '\0'}) {
    EXPECT_FALSE(StoreId::parse(bad)) << bad;
  }
}

TEST(Ids, HashOneByOne) {
  std::unordered_set<Address> addresses;
  std::unordered_set<KeyId> keys;
  std::unordered_set<DiskId> disks;
  for (std::uint64_t i = 16; i < 1016; ++i) {
    addresses.insert(*Address::make(*KeyId::make(i), {i}));
    keys.insert(*KeyId::make(i));
    disks.insert(DiskId{i, 1});
  }
  EXPECT_EQ(addresses.size(), 1000U);
  EXPECT_EQ(keys.size(), 1000U);
  EXPECT_EQ(disks.size(), 1000U);
}

}  // namespace
}  // namespace vmstore
