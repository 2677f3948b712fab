// SPDX-License-Identifier: Apache-2.0
#include "wire/record.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>

#include "base/checksum.h"
#include "base/limits.h"
#include "base/random.h"
#include "tests/unit/wire/golden.h"

namespace vmstore::wire {
namespace {

using test::golden;

constexpr std::uint64_t kKey = 0x123456789;
constexpr std::uint64_t kLbnEnd = std::uint64_t{1} << 36;
/// The values that the threat list names for every number.
constexpr std::uint64_t kEdges[] = {
    0, 1, 0x7fffffff, 0x80000000, 0x1ffffffff, 0x200000000, 0x8000000000000000, 0xffffffffffffffff};

KeyId key_of(std::uint64_t number) {
  return *KeyId::make(number);
}
Address address_of(std::uint64_t block) {
  return *Address::make(key_of(kKey), BlockIndex{block});
}
LogPosition position(std::uint64_t key, std::uint64_t offset, std::uint64_t sequence) {
  return {key_of(key), offset, Sequence(sequence)};
}

RecordHeader base_record(RecordKind kind) {
  RecordHeader h;
  h.kind = kind;
  h.disk = DiskId{0x0011223344556677, 0x8899aabbccddeeff};
  h.key = key_of(kKey);
  h.epoch = Epoch(7);
  h.sequence = Sequence(42);
  h.committed = Sequence(40);
  h.wall_time = WallTime(Duration(1700000000123456789));
  return h;
}

RecordHeader data_record() {
  RecordHeader h = base_record(RecordKind::data);
  h.flush_mark = true;
  h.root = position(0x10, 4096, 39);
  h.generation = Generation(3);
  h.data_offset = BlockIndex{(1U << 28) - 2};
  h.runs = {{RunKind::stored, Lbn(100), 2, Address()},
            {RunKind::at_address, Lbn(1U << 20), 9, address_of(5000)},
            {RunKind::zero, Lbn(0), kLbnEnd, Address()}};
  h.block_sums = {0x1111111111111111, 0xfffffffffffffffe};
  return h;
}

RecordHeader pages_record() {
  RecordHeader h = base_record(RecordKind::pages);
  h.data_offset = BlockIndex{77};
  h.pages = {{0, Lbn(512)}, {3, Lbn(0)}};
  h.block_sums = {5, 6};
  return h;
}

RecordHeader root_record() {
  RecordHeader h = base_record(RecordKind::root);
  h.disk_bytes = 10 * limits::kGiB;
  h.root = position(kKey, std::uint64_t{1} << 40, 20);
  h.top_page = address_of(5000);
  h.replay_from = position(kKey, 168, 41);
  return h;
}

RecordHeader resize_record() {
  RecordHeader h = base_record(RecordKind::resize);
  h.disk_bytes = 512;
  h.runs = {{RunKind::zero, Lbn(1), kLbnEnd - 1, Address()}};
  return h;
}

RecordHeader key_header_record() {
  RecordHeader h = base_record(RecordKind::key_header);
  h.predecessor = key_of(KeyId::kEnd - 1);
  h.predecessor_length = {Sequence(41), 123456, BlockIndex{BlockIndex::kEnd}};
  return h;
}

struct Sample {
  const char* file;
  RecordHeader header;
};
std::vector<Sample> samples() {
  return {{"record-v1.data.hex", data_record()},
          {"record-v1.pages.hex", pages_record()},
          {"record-v1.root.hex", root_record()},
          {"record-v1.resize.hex", resize_record()},
          {"record-v1.key-header.hex", key_header_record()}};
}

Errc decode_error(ByteSpan log) {
  const auto decoded = decode_record(log);
  return decoded ? Errc::ok : decoded.error().code;
}

/// Puts a number at a place of an encoded record and makes the checksum right again.
std::vector<std::byte> patched(std::vector<std::byte> record,
                               std::size_t place,
                               std::uint64_t number,
                               std::size_t width = 8) {
  const auto put = [&record](std::size_t at, std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      record.at(at + i) = static_cast<std::byte>((value >> (8 * i)) & 0xffU);
    }
  };
  put(place, number, width);
  put(24, 0, 8);
  put(24, xxh3(ByteSpan(record)), 8);
  return record;
}

TEST(RecordGolden, BytesAreTheDocumentedOnes) {
  for (const Sample& sample : samples()) {
    const auto bytes = golden(sample.file);
    EXPECT_EQ(encode_record(sample.header), bytes) << sample.file;
    EXPECT_EQ(encoded_bytes(sample.header), bytes.size()) << sample.file;
    const auto decoded = decode_record(bytes);
    ASSERT_TRUE(decoded) << sample.file;
    EXPECT_EQ(decoded->header, sample.header) << sample.file;
    EXPECT_EQ(decoded->bytes, bytes.size()) << sample.file;
  }
}

TEST(RecordGolden, HigherVersionIsNewerFormat) {
  EXPECT_EQ(decode_error(golden("record-v2.newer.hex")), Errc::newer_format);
}

TEST(RecordGolden, WhatIsReservedForLaterIsUnsupported) {
  for (const char* name : {"record-v1.reserved-kind-forwards.hex",
                           "record-v1.reserved-flag-packed.hex",
                           "record-v1.reserved-flag-system-key.hex",
                           "record-v1.reserved-flag-domain.hex",
                           "record-v1.reserved-run-kind.hex",
                           "record-v1.reserved-run-slot.hex",
                           "record-v1.reserved-top-page-slot.hex",
                           "record-v1.reserved-key.hex"}) {
    EXPECT_EQ(decode_error(golden(name)), Errc::unsupported) << name;
  }
}

TEST(Record, EveryTruncationAsksForMoreBytes) {
  for (const Sample& sample : samples()) {
    const auto bytes = encode_record(sample.header);
    EXPECT_EQ(decode_error({}), Errc::not_found);
    for (std::size_t length = 1; length < bytes.size(); ++length) {
      EXPECT_EQ(decode_error(ByteSpan(bytes).first(length)), Errc::wrong_offset)
          << sample.file << " cut to " << length;
    }
  }
}

TEST(Record, EverySingleBitFlipIsDamage) {
  for (const Sample& sample : samples()) {
    auto bytes = encode_record(sample.header);
    for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
      const auto mask = static_cast<std::byte>(1U << (bit % 8));
      bytes[bit / 8] ^= mask;
      EXPECT_EQ(decode_error(bytes), Errc::corrupt) << sample.file << " bit " << bit;
      bytes[bit / 8] ^= mask;
    }
  }
}

TEST(Record, ZerosAreTheEndOfTheLogHoweverFew) {
  const std::vector<std::byte> zeros(4096);
  for (const std::size_t length : {1U, 8U, 167U, 168U, 4096U}) {
    EXPECT_EQ(decode_error(ByteSpan(zeros).first(length)), Errc::not_found) << length;
  }
}

// A sector of a record that was lost reads as zeros: that is damage, not the end of the log (I9).
TEST(Record, F5_lost_first_bytes_are_damage_not_the_end) {
  auto bytes = encode_record(data_record());
  for (std::size_t i = 0; i < 8; ++i) bytes[i] = std::byte{0};
  EXPECT_EQ(decode_error(bytes), Errc::corrupt);
}

TEST(Record, BytesBehindItAreNotLookedAt) {
  auto bytes = encode_record(root_record());
  const std::size_t length = bytes.size();
  bytes.resize(length + 999, std::byte{0xab});
  const auto decoded = decode_record(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->bytes, length);
}

TEST(Record, LargestRecordFitsAndOneMoreDoesNot) {
  RecordHeader h = base_record(RecordKind::data);
  h.runs.assign(limits::kRecordRunsMax, {RunKind::zero, Lbn(kLbnEnd - 1), 1, Address()});
  h.runs[0] = {RunKind::stored, Lbn(5), limits::kRecordBlocksMax, Address()};
  h.block_sums.assign(limits::kRecordBlocksMax, 9);
  const auto bytes = encode_record(h);
  EXPECT_LE(bytes.size(), limits::kRecordHeaderBytesMax);
  EXPECT_EQ(decode_record(bytes)->header, h);
  h.runs.push_back(h.runs.back());
  EXPECT_DEATH(static_cast<void>(encode_record(h)), "verdict");
}

// Every number of the fixed part at every edge: what decodes encodes to the same bytes again, and
// what does not is named as what it is.
TEST(RecordLimits, EveryNumberAtEveryEdgeIsExactOrRefused) {
  for (const Sample& sample : samples()) {
    const auto bytes = encode_record(sample.header);
    for (std::size_t place = 32; place < bytes.size(); place += 8) {
      for (const std::uint64_t edge : kEdges) {
        const auto changed = patched(bytes, place, edge);
        const auto decoded = decode_record(changed);
        if (decoded) {
          EXPECT_EQ(encode_record(decoded->header), changed) << sample.file << " at " << place;
        } else {
          EXPECT_TRUE(decoded.error() == Errc::corrupt || decoded.error() == Errc::unsupported)
              << sample.file << " at " << place << " = " << edge << ": " << decoded.error();
        }
      }
    }
  }
}

TEST(RecordLimits, KeyNumbersEndBelow33Bits) {
  const auto bytes = encode_record(data_record());
  constexpr std::size_t kKeyPlace = 48;
  EXPECT_EQ(decode_error(patched(bytes, kKeyPlace, 0)), Errc::corrupt);
  EXPECT_EQ(decode_error(patched(bytes, kKeyPlace, 1)), Errc::unsupported);
  EXPECT_EQ(decode_error(patched(bytes, kKeyPlace, 15)), Errc::unsupported);
  EXPECT_EQ(decode_error(patched(bytes, kKeyPlace, 16)), Errc::ok);
  EXPECT_EQ(decode_error(patched(bytes, kKeyPlace, KeyId::kEnd - 1)), Errc::ok);
  EXPECT_EQ(decode_error(patched(bytes, kKeyPlace, KeyId::kEnd)), Errc::corrupt);
}

TEST(RecordLimits, BlocksEndBelow31BitsOfSectors) {
  const auto bytes = encode_record(data_record());  // two blocks
  constexpr std::size_t kDataOffsetPlace = 120;
  EXPECT_EQ(decode_error(patched(bytes, kDataOffsetPlace, BlockIndex::kEnd - 2)), Errc::ok);
  EXPECT_EQ(decode_error(patched(bytes, kDataOffsetPlace, BlockIndex::kEnd - 1)), Errc::corrupt);
  RecordHeader h = data_record();
  h.runs[1].count = 1;
  h.runs[1].address = address_of(BlockIndex::kEnd - 1);
  const auto last = encode_record(h);
  EXPECT_EQ(decode_record(last)->header, h);
  constexpr std::size_t kCountPlace = 168 + 24 + 8;
  const std::uint64_t kind = std::uint64_t{2} << 56;
  EXPECT_EQ(decode_error(patched(last, kCountPlace, kind | 2)), Errc::corrupt);
}

TEST(RecordLimits, RunsEndAtTheLargestDisk) {
  const auto bytes = encode_record(resize_record());
  const std::uint64_t kind = std::uint64_t{3} << 56;
  EXPECT_EQ(decode_error(patched(bytes, 176, kind | kLbnEnd)), Errc::corrupt);  // from block 1
  EXPECT_EQ(decode_error(patched(bytes, 168, 0)), Errc::ok);                    // one fewer
  EXPECT_EQ(decode_error(patched(bytes, 168, kLbnEnd)), Errc::corrupt);
  EXPECT_EQ(decode_error(patched(bytes, 176, kind)), Errc::corrupt);  // no blocks
  EXPECT_EQ(decode_error(patched(bytes, 176, (kind << 1) | 1)), Errc::unsupported);
  EXPECT_EQ(decode_error(patched(bytes, 176, 1)), Errc::corrupt);  // no kind
}

TEST(RecordLimits, DiskSizesAreWholeSectorsUpTo256TiB) {
  const auto bytes = encode_record(resize_record());
  constexpr std::size_t kPlace = 128;
  for (const std::uint64_t bad :
       {std::uint64_t{0}, std::uint64_t{513}, limits::kDiskBytesMax + 512}) {
    EXPECT_EQ(decode_error(patched(bytes, kPlace, bad)), Errc::corrupt) << bad;
  }
  EXPECT_EQ(decode_error(patched(bytes, kPlace, limits::kDiskBytesMax)), Errc::ok);
}

TEST(RecordLimits, CountsThatDoNotAddUpAreDamageBeforeAnythingIsAllocated) {
  const auto bytes = encode_record(data_record());
  for (const std::size_t place : {8U, 12U, 16U, 20U}) {
    for (const std::uint64_t edge : {std::uint64_t{0},
                                     std::uint64_t{0x7fffffff},
                                     std::uint64_t{0x80000000},
                                     std::uint64_t{0xffffffff}}) {
      if (place == 16 && edge == 0) continue;  // is zero already
      EXPECT_EQ(decode_error(patched(bytes, place, edge, 4)), Errc::corrupt) << place << edge;
    }
  }
}

TEST(Record, FieldsOfAnotherKindAreDamage) {
  const auto with = [](RecordHeader h, std::size_t place) {
    return decode_error(patched(encode_record(h), place, 512));
  };
  EXPECT_EQ(with(data_record(), 128), Errc::corrupt);   // a size
  EXPECT_EQ(with(pages_record(), 136), Errc::corrupt);  // a top page
  EXPECT_EQ(with(pages_record(), 160), Errc::corrupt);  // replay from
  RecordHeader first = key_header_record();
  first.predecessor = KeyId();
  first.predecessor_length = KeyLength();
  EXPECT_EQ(with(first, 144), Errc::corrupt);  // the length of no predecessor
}

TEST(Record, CommittedIsAlwaysBelowItsOwnSequence) {
  const auto bytes = encode_record(data_record());
  EXPECT_EQ(decode_error(patched(bytes, 72, 41)), Errc::ok);
  EXPECT_EQ(decode_error(patched(bytes, 72, 42)), Errc::corrupt);
}

RecordHeader random_data_record(Random& random) {
  RecordHeader h = base_record(RecordKind::data);
  h.disk = random.id128<DiskId>();
  h.key = key_of(KeyId::kFirst + random.below(KeyId::kEnd - KeyId::kFirst));
  h.epoch = Epoch(random.u64());
  h.sequence = Sequence(1 + random.below(std::numeric_limits<std::uint64_t>::max()));
  h.committed = Sequence(random.below(h.sequence.value));
  h.flush_mark = random.one_in(2);
  h.wall_time = WallTime(Duration(static_cast<std::int64_t>(random.u64())));
  const std::uint64_t runs = random.below(20);
  std::uint64_t stored = 0;
  for (std::uint64_t i = 0; i < runs; ++i) {
    Run run;
    run.kind = static_cast<RunKind>(1 + random.below(3));
    run.count = 1 + random.below(6);
    run.lbn = Lbn(random.below(kLbnEnd - run.count));
    if (run.kind == RunKind::at_address) {
      run.address = *Address::make(h.key, BlockIndex{random.below(BlockIndex::kEnd - run.count)});
    }
    if (run.kind == RunKind::stored) stored += run.count;
    h.runs.push_back(run);
  }
  for (std::uint64_t i = 0; i < stored; ++i) h.block_sums.push_back(random.u64() | 1U);
  h.data_offset = BlockIndex{random.below(BlockIndex::kEnd - stored)};
  return h;
}

TEST(Record, WhatIsEncodedIsDecodedAgain) {
  Random random(20240229);
  for (int i = 0; i < 2000; ++i) {
    const RecordHeader header = random_data_record(random);
    const auto bytes = encode_record(header);
    EXPECT_EQ(bytes.size() % 8, 0U);
    const auto decoded = decode_record(bytes);
    ASSERT_TRUE(decoded);
    ASSERT_EQ(decoded->header, header);
  }
}

}  // namespace
}  // namespace vmstore::wire
