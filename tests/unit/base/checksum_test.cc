// SPDX-License-Identifier: Apache-2.0
#include "base/checksum.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "base/random.h"

namespace vmstore {
namespace {

std::string hex(const Sha256& digest) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const std::byte byte : digest) {
    text.push_back(kDigits[std::to_integer<unsigned>(byte) >> 4]);
    text.push_back(kDigits[std::to_integer<unsigned>(byte) & 15U]);
  }
  return text;
}

TEST(Checksum, Xxh3IsThePublishedFunction) {
  EXPECT_EQ(xxh3(ByteSpan{}), 0x2d06800538d394c2U);  // XXH3_64bits("", 0), seed 0
}

TEST(Checksum, OfLongInputsIsThePublishedFunctionOnAnyProcessor) {
  // Beyond 240 bytes the work is done by whatever vectors the processor has. The numbers come from
  // the inlined SSE2 code.
  std::vector<std::byte> bytes(65536 + 7);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 131 >> 3);
  EXPECT_EQ(xxh3(ByteSpan(bytes).first(241)), 0x2de42aed8d7c80d8U);
  EXPECT_EQ(xxh3(ByteSpan(bytes).first(4096)), 0x0e6e0796ab5608abU);
  EXPECT_EQ(xxh3(ByteSpan(bytes)), 0x0b4d4a7baeb7724dU);
}

TEST(Checksum, OfPiecesIsThatOfTheWhole) {
  std::vector<std::byte> whole(10000);
  Random random(1);
  for (auto& byte : whole) byte = static_cast<std::byte>(random.u64());
  for (const std::size_t cut : {std::size_t{0}, std::size_t{1}, std::size_t{4096}, whole.size()}) {
    const std::array<ByteSpan, 2> pieces{ByteSpan(whole).first(cut), ByteSpan(whole).subspan(cut)};
    EXPECT_EQ(xxh3(pieces), xxh3(ByteSpan(whole))) << cut;
  }
}

TEST(Checksum, ASumIsNeverZero) {
  std::vector<std::byte> block(4096);
  EXPECT_NE(block_sum(block), 0U);
  EXPECT_EQ(block_sum(block), xxh3(ByteSpan(block)));
}

TEST(Checksum, EveryFlippedBitChangesTheSum) {
  std::vector<std::byte> block(4096, std::byte{0x5a});
  const std::uint64_t sum = block_sum(block);
  for (std::size_t i = 0; i < block.size(); i += 13) {
    block[i] ^= std::byte{4};
    EXPECT_NE(block_sum(block), sum) << i;
    block[i] ^= std::byte{4};
  }
}

TEST(Checksum, Sha256IsThePublishedFunction) {
  EXPECT_EQ(hex(sha256(as_byte_span("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(hex(sha256(ByteSpan{})),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Checksum, AllZeroLooksAtEveryByte) {
  std::vector<std::byte> block(4096);
  EXPECT_TRUE(is_all_zero(block));
  EXPECT_TRUE(is_all_zero({}));
  for (const std::size_t place : {std::size_t{0}, std::size_t{1}, std::size_t{4095}}) {
    block[place] = std::byte{1};
    EXPECT_FALSE(is_all_zero(block)) << place;
    block[place] = std::byte{0};
  }
}

TEST(Random, IsReproducibleAndDiffersBySeed) {
  Random a(7);
  Random b(7);
  Random c(8);
  bool differs = false;
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t value = a.u64();
    EXPECT_EQ(value, b.u64());
    differs = differs || value != c.u64();
  }
  EXPECT_TRUE(differs);
}

TEST(Random, StaysBelowItsBound) {
  Random random(3);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_LT(random.below(7), 7U);
    EXPECT_EQ(random.below(1), 0U);
  }
}

TEST(Random, TheSystemGivesDifferentSeeds) {
  EXPECT_NE(system_seed(), system_seed());
}

TEST(Sha256Stream, PiecesGiveTheDigestOfTheWhole) {
  std::vector<std::byte> bytes(10000);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 7);
  Sha256Stream stream;
  const ByteSpan all(bytes);
  stream.update(all.first(1));
  stream.update({});
  stream.update(all.subspan(1, 4096));
  stream.update(all.subspan(4097));
  EXPECT_EQ(stream.finish(), sha256(bytes));
}

}  // namespace
}  // namespace vmstore
