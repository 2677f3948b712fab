// SPDX-License-Identifier: Apache-2.0
#include "snapshot/page.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/wire/golden.h"

namespace vmstore::snapshot {
namespace {

std::vector<std::byte> encoded(const Page& page) {
  std::vector<std::byte> block(kBlockBytes);
  encode_page(page, block);
  return block;
}

Page with_entry(std::size_t index, std::uint64_t raw) {
  Page page;
  page.entries[index] = Address::from_raw(raw);
  return page;
}

TEST(Page, DecodesWhatItEncoded) {
  Page page;
  for (std::size_t i = 0; i < kPageEntries; i += 3) {
    page.entries[i] = *Address::make(*KeyId::make(KeyId::kEnd - 1 - i), BlockIndex{i * i});
  }
  const auto decoded = decode_page(encoded(page));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->entries, page.entries);
}

TEST(Page, GoldenFileReadsAndIsWrittenTheSame) {
  const auto bytes = wire::test::golden("page-v1.hex");
  const auto page = decode_page(bytes);
  ASSERT_TRUE(page.has_value());
  Page expected;
  const auto set = [&](std::size_t i, std::uint64_t key, std::uint64_t block) {
    expected.entries[i] = *Address::make(*KeyId::make(key), BlockIndex{block});
  };
  set(0, 16, 0);
  set(1, 16, 1);
  set(7, 0x123456789, 0xabcdef);
  set(255, KeyId::kEnd - 1, BlockIndex::kEnd - 1);
  set(511, 17, 42);
  EXPECT_EQ(page->entries, expected.entries);
  EXPECT_EQ(encoded(expected), bytes);
}

TEST(Page, GoldenFilesOfReservedFormsAreUnsupported) {
  for (const char* name : {"page-v1.reserved-slot.hex", "page-v1.reserved-key.hex"}) {
    EXPECT_EQ(decode_page(wire::test::golden(name)).error(), Errc::unsupported) << name;
  }
}

TEST(Page, EveryTruncationIsCorrupt) {
  const auto bytes = wire::test::golden("page-v1.hex");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_EQ(decode_page(ByteSpan(bytes).first(size)).error(), Errc::corrupt) << size;
  }
}

// A page carries no sum of its own: a flipped bit is another page or is refused, never a crash.
TEST(Page, EveryFlippedBitIsRefusedOrSeen) {
  auto bytes = wire::test::golden("page-v1.hex");
  const auto original = decode_page(bytes);
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const auto flip = static_cast<std::byte>(1U << (bit % 8));
    bytes[bit / 8] ^= flip;
    const auto changed = decode_page(bytes);
    if (changed) {
      ASSERT_NE(changed->entries, original->entries) << bit;
    }
    bytes[bit / 8] ^= flip;
  }
}

TEST(Page, ABlockOfAnotherSizeIsCorrupt) {
  const std::vector<std::byte> block(kBlockBytes + 1);
  for (const std::size_t size : {std::size_t{0}, std::size_t{4095}, std::size_t{4097}}) {
    EXPECT_EQ(decode_page(ByteSpan(block).first(size)).error(), Errc::corrupt) << size;
  }
}

TEST(Page, APackedAddressIsUnsupported) {
  const std::uint64_t raw = KeyId::kFirst << 31;
  for (std::uint64_t slot = 1; slot < kSectorsPerBlock; ++slot) {
    EXPECT_EQ(decode_page(encoded(with_entry(511, raw + slot))).error(), Errc::unsupported);
  }
}

TEST(Page, AnAddressWithoutAKeyIsCorrupt) {
  EXPECT_EQ(decode_page(encoded(with_entry(0, 8))).error(), Errc::corrupt);
  EXPECT_EQ(decode_page(encoded(with_entry(0, 1))).error(), Errc::corrupt);
}

TEST(Page, AReservedKeyIsUnsupported) {
  for (std::uint64_t key = 1; key < KeyId::kFirst; ++key) {
    EXPECT_EQ(decode_page(encoded(with_entry(1, key << 31))).error(), Errc::unsupported) << key;
  }
  EXPECT_TRUE(decode_page(encoded(with_entry(1, KeyId::kFirst << 31))).has_value());
}

TEST(Page, EntryIndexAndPageFirstSplitABlockNumber) {
  const Lbn lbn(((std::uint64_t{3} * 512 + 5) * 512 + 7) * 512 + 9);
  EXPECT_EQ(entry_index(lbn, 0), 9U);
  EXPECT_EQ(entry_index(lbn, 1), 7U);
  EXPECT_EQ(entry_index(lbn, 2), 5U);
  EXPECT_EQ(entry_index(lbn, 3), 3U);
  EXPECT_EQ(page_first(lbn, 0).value, lbn.value - 9);
  EXPECT_EQ(page_first(lbn, 3).value, 0U);
  EXPECT_EQ(blocks_per_page(kTopLevel) * kBlockBytes, std::uint64_t{256} << 40);
}

TEST(Page, AllZeroSeesTheLastEntry) {
  EXPECT_TRUE(Page().all_zero());
  EXPECT_FALSE(with_entry(511, 8).all_zero());
}

}  // namespace
}  // namespace vmstore::snapshot
