// SPDX-License-Identifier: Apache-2.0
#include "meta/records.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "meta/schema.h"
#include "tests/support/code_of.h"

namespace vmstore::meta {
namespace {

constexpr DiskId kDisk{0x0123456789abcdefU, 0xfedcba9876543210U};

pb::DiskRecord sample_disk() {
  pb::DiskRecord record;
  *record.mutable_id() = to_pb(kDisk);
  record.set_name("desk1");
  record.set_size_bytes(10 * limits::kGiB);
  record.set_epoch(7);
  *record.mutable_log_from() = to_pb(LogPosition{*KeyId::make(17), 4096, Sequence(3)});
  for (const char* name : {"z", "a", "m", "b"}) (*record.mutable_settings())[name] = name;
  return record;
}

TEST(Records, DecodingReturnsWhatWasEncoded) {
  const auto back = decode<pb::DiskRecord>(encode(sample_disk()));
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(from_pb<DiskId>(back->id()), kDisk);
  EXPECT_EQ(back->name(), "desk1");
  const LogPosition from = from_pb(back->log_from());
  EXPECT_EQ(from, (LogPosition{*KeyId::make(17), 4096, Sequence(3)}));
}

TEST(Records, EqualRecordsEncodeToEqualBytes) {
  pb::DiskRecord other = sample_disk();
  other.mutable_settings()->clear();
  for (const char* name : {"b", "m", "z", "a"}) (*other.mutable_settings())[name] = name;
  EXPECT_EQ(encode(other), encode(sample_disk()));
}

TEST(Records, EmptyValueIsCorruptNeverARecordOfZeros) {
  EXPECT_EQ(code_of(decode<pb::DiskRecord>("")), Errc::corrupt);
  EXPECT_EQ(code_of(decode<pb::SnapshotRecord>("")), Errc::corrupt);
  EXPECT_EQ(code_of(decode<pb::StoreRecord>("")), Errc::corrupt);
  EXPECT_EQ(code_of(decode<pb::NodeRecord>("")), Errc::corrupt);
  EXPECT_EQ(code_of(decode<pb::KeyCounter>("")), Errc::corrupt);
}

TEST(Records, TruncatedValueNeverCrashesTheDecoder) {
  const std::string whole = encode(sample_disk());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const auto part = decode<pb::DiskRecord>(std::string_view(whole).substr(0, length));
    if (!part) continue;
    EXPECT_EQ(from_pb<DiskId>(part->id()), kDisk) << length;
  }
}

TEST(Records, KeyOfMoreThan33BitsIsCorrupt) {
  pb::DiskRecord record = sample_disk();
  record.mutable_log_end()->set_key(KeyId::kEnd);
  EXPECT_EQ(code_of(decode<pb::DiskRecord>(record.SerializeAsString())), Errc::corrupt);
  record.mutable_log_end()->set_key(KeyId::kEnd - 1);
  EXPECT_TRUE(decode<pb::DiskRecord>(record.SerializeAsString()).has_value());
}

TEST(Records, ImpossibleDiskSizeIsCorrupt) {
  pb::DiskRecord record = sample_disk();
  record.set_size_bytes(limits::kDiskBytesMax + kSectorBytes);
  EXPECT_EQ(code_of(decode<pb::DiskRecord>(record.SerializeAsString())), Errc::corrupt);
  record.set_size_bytes(1000);
  EXPECT_EQ(code_of(decode<pb::DiskRecord>(record.SerializeAsString())), Errc::corrupt);
}

TEST(Records, PlaceWithoutAnIncarnationForEachNodeIsCorrupt) {
  pb::DiskRecord record = sample_disk();
  *record.mutable_open_key()->add_nodes() = to_pb(NodeId{1, 2});
  EXPECT_EQ(code_of(decode<pb::DiskRecord>(record.SerializeAsString())), Errc::corrupt);
}

TEST(Records, ViewOfTooManyPartsIsCorrupt) {
  pb::SnapshotRecord record;
  *record.mutable_disk() = to_pb(kDisk);
  for (int i = 0; i < 4; ++i) {
    *record.mutable_view()->add_parts()->mutable_disk() = to_pb(kDisk);
  }
  EXPECT_TRUE(decode<pb::SnapshotRecord>(record.SerializeAsString()).has_value());
  *record.mutable_view()->add_parts()->mutable_disk() = to_pb(kDisk);
  EXPECT_EQ(code_of(decode<pb::SnapshotRecord>(record.SerializeAsString())), Errc::corrupt);
}

TEST(Records, StoreOfANewerVersionIsRefusedAsNewer) {
  pb::StoreRecord record;
  *record.mutable_id() = to_pb(StoreId{1, 2});
  record.set_format(kStoreFormat + 1);
  EXPECT_EQ(code_of(decode<pb::StoreRecord>(record.SerializeAsString())), Errc::newer_format);
}

TEST(Records, CounterThatWouldHandOutReservedKeysIsCorrupt) {
  pb::KeyCounter counter;
  counter.set_next(KeyId::kFirst - 1);
  EXPECT_EQ(code_of(decode<pb::KeyCounter>(counter.SerializeAsString())), Errc::corrupt);
}

TEST(Records, IdAloneIsSixteenBytes) {
  const std::string bytes = encode_id(kDisk);
  EXPECT_EQ(bytes.size(), 16U);
  EXPECT_EQ(static_cast<unsigned char>(bytes[0]), 0xefU);
  const auto back = decode_id<DiskId>(bytes);
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(*back, kDisk);
  EXPECT_EQ(code_of(decode_id<DiskId>(bytes.substr(1))), Errc::corrupt);
  EXPECT_EQ(code_of(decode_id<DiskId>(bytes + "x")), Errc::corrupt);
  EXPECT_EQ(code_of(decode_id<DiskId>(std::string(16, '\0'))), Errc::corrupt);
}

TEST(Records, LengthsSurviveTheRoundTrip) {
  const KeyLength length{Sequence(9), 12345, {BlockIndex::kEnd}};
  EXPECT_EQ(from_pb(to_pb(length)), length);
}

}  // namespace
}  // namespace vmstore::meta
