// SPDX-License-Identifier: Apache-2.0
#include "base/bytes.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <vector>

namespace vmstore {
namespace {

TEST(Bytes, NumbersAreLittleEndian) {
  ByteWriter out;
  out.put(std::uint8_t{0x01}).put(std::uint16_t{0x0302}).put(std::uint32_t{0x07060504});
  out.put(std::uint64_t{0x0f0e0d0c0b0a0908});
  ASSERT_EQ(out.size(), 15U);
  for (std::size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(out.bytes()[i], static_cast<std::byte>(i + 1));
  }
}

TEST(Bytes, WhatIsWrittenIsRead) {
  ByteWriter out;
  out.put(std::numeric_limits<std::uint64_t>::max()).put(std::uint8_t{7});
  out.put_bytes(as_byte_span("text")).put_zeros(3);
  ByteReader in(out.bytes());
  EXPECT_EQ(in.get<std::uint64_t>(), std::numeric_limits<std::uint64_t>::max());
  EXPECT_EQ(in.get<std::uint8_t>(), 7U);
  EXPECT_EQ(as_text(in.get_bytes(4)), "text");
  in.skip(3);
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.remaining(), 0U);
}

TEST(Bytes, PatchChangesOnlyItsField) {
  ByteWriter out;
  out.put(std::uint32_t{1}).put(std::uint32_t{2}).put(std::uint32_t{3});
  out.patch(4, std::uint32_t{0xffffffff});
  ByteReader in(out.bytes());
  EXPECT_EQ(in.get<std::uint32_t>(), 1U);
  EXPECT_EQ(in.get<std::uint32_t>(), 0xffffffffU);
  EXPECT_EQ(in.get<std::uint32_t>(), 3U);
}

TEST(Bytes, ReadingPastTheEndGivesZerosFromThenOn) {
  ByteWriter out;
  out.put(std::uint32_t{0xffffffff});
  for (std::size_t cut = 0; cut < 4; ++cut) {
    ByteReader in(out.bytes().first(cut));
    EXPECT_EQ(in.get<std::uint32_t>(), 0U) << cut;
    EXPECT_FALSE(in.ok());
    EXPECT_EQ(in.get<std::uint8_t>(), 0U) << "a short read must not leave the rest readable";
    EXPECT_TRUE(in.get_bytes(1).empty());
  }
}

TEST(Bytes, HugeCountsDoNotOverflow) {
  const std::vector<std::byte> bytes(8);
  ByteReader in(bytes);
  EXPECT_TRUE(in.get_bytes(std::numeric_limits<std::size_t>::max()).empty());
  EXPECT_FALSE(in.ok());
}

TEST(Bytes, AReaderOfNothingIsFineUntilAsked) {
  ByteReader in(ByteSpan{});
  EXPECT_TRUE(in.ok());
  EXPECT_TRUE(in.get_bytes(0).empty());
  EXPECT_TRUE(in.ok());
}

}  // namespace
}  // namespace vmstore
