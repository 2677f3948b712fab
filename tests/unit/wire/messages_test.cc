// SPDX-License-Identifier: Apache-2.0
#include "wire/messages.h"

#include <gtest/gtest.h>

#include "wire/vmstore.pb.h"

namespace vmstore::wire {
namespace {

constexpr std::uint64_t kMax = ~std::uint64_t{0};

TEST(Messages, WhatIsSerializedIsParsedAgain) {
  pb::KeyFenceRequest request;
  request.set_key(kMax);
  request.set_token(7);
  const auto parsed = parse<pb::KeyFenceRequest>(serialize(request));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->key(), kMax);
  EXPECT_EQ(parsed->token(), 7U);
}

TEST(Messages, DamagedOrOverlongControlIsABadFrame) {
  EXPECT_EQ(parse<pb::KeyFenceRequest>("\x09short").error(), Errc::bad_frame);
  EXPECT_EQ(parse<pb::HelloRequest>(std::string("\x1a\xff\xff\xff\xff\x0f", 6)).error(),
            Errc::bad_frame);
  const std::string overlong(limits::kControlBytesMax + 1, '\0');
  EXPECT_EQ(parse<pb::KeyFenceReply>(overlong).error(), Errc::bad_frame);
}

TEST(Messages, EveryTruncationIsRefusedOrEqualToAShorterMessage) {
  pb::KeyReadRequest request;
  for (std::uint64_t i = 0; i < 3; ++i) {
    auto* const range = request.add_ranges();
    range->set_address(i << 31);
    range->set_blocks(256);
  }
  const std::string whole = serialize(request);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto parsed = parse<pb::KeyReadRequest>(std::string_view(whole).substr(0, length));
    EXPECT_EQ(parsed ? serialize(*parsed).size() : length, length);
  }
}

TEST(Messages, IdsKeepAll128Bits) {
  pb::Id message;
  put_id(message, DiskId{kMax, 1});
  EXPECT_EQ(get_id<DiskId>(message), (DiskId{kMax, 1}));
}

TEST(Messages, LengthsEndWithTheKey) {
  const KeyLength length{Sequence(kMax), kMax, BlockIndex{BlockIndex::kEnd}};
  pb::Length message;
  put_length(message, length);
  EXPECT_EQ(*get_length(message), length);
  for (const std::uint64_t bad : {BlockIndex::kEnd + 1,
                                  std::uint64_t{0x7fffffff},
                                  std::uint64_t{1} << 33,
                                  std::uint64_t{1} << 63,
                                  kMax}) {
    message.set_blocks(bad);
    EXPECT_EQ(get_length(message).error(), Errc::bad_frame) << bad;
  }
}

TEST(Messages, KeysAre33BitsAndNotReserved) {
  for (const std::uint64_t good :
       {KeyId::kFirst, std::uint64_t{0x7fffffff}, std::uint64_t{0x80000000}, KeyId::kEnd - 1}) {
    ASSERT_TRUE(get_key(good)) << good;
    EXPECT_EQ(get_key(good)->value(), good);
  }
  for (const std::uint64_t bad : {std::uint64_t{0},
                                  std::uint64_t{1},
                                  std::uint64_t{15},
                                  KeyId::kEnd,
                                  std::uint64_t{1} << 63,
                                  kMax}) {
    EXPECT_EQ(get_key(bad).error(), Errc::bad_frame) << bad;
  }
}

TEST(Messages, PositionsMayBeNone) {
  const LogPosition position{*KeyId::make(77), kMax, Sequence(3)};
  pb::Position message;
  put_position(message, position);
  EXPECT_EQ(*get_position(message), position);
  EXPECT_EQ(*get_position(pb::Position()), LogPosition());
  message.set_key(KeyId::kEnd);
  EXPECT_EQ(get_position(message).error(), Errc::bad_frame);
  message.set_key(1);
  EXPECT_EQ(get_position(message).error(), Errc::bad_frame);
}

}  // namespace
}  // namespace vmstore::wire
