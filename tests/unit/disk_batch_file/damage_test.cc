// SPDX-License-Identifier: Apache-2.0
// A batch file that is damaged, newer or made by hand: refused, never a crash, never "empty".
#include <gtest/gtest.h>

#include <charconv>
#include <fstream>
#include <sstream>

#include "base/checksum.h"
#include "disk/batch_file_format.h"
#include "tests/unit/disk_batch_file/batch_workload.h"

namespace vmstore::disk {
namespace {

namespace format = batch_format;

/// Bytes of a golden file: "@ place" moves on, '#' begins a comment; what is not named is zero.
void read_golden(const std::string& name, MutableBytes memory) {
  std::ifstream file(std::string(VMSTORE_GOLDEN_FOLDER) + "/" + name);
  ASSERT_TRUE(file) << name;
  std::size_t place = 0;
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line.substr(0, line.find('#')));
    for (std::string word; words >> word;) {
      if (word == "@") {
        words >> place;
        continue;
      }
      unsigned value = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
      ASSERT_TRUE(error == std::errc() && end == word.data() + 2 && word.size() == 2) << word;
      ASSERT_LT(place, memory.size());
      memory[place++] = static_cast<std::byte>(value);
    }
  }
}

void set_word(MutableBytes memory, std::size_t place, std::uint64_t value) {
  std::memcpy(memory.data() + place, &value, sizeof value);
}

/// Makes the sum of the fixed part right.
void sum_header(MutableBytes memory) {
  set_word(memory, format::kChecksumAt, xxh3(memory.first(format::kChecksumAt)));
}

/// Writes an entry with a right tag, whatever it says.
void set_entry(MutableBytes memory, std::uint64_t position, std::array<std::uint64_t, 3> words) {
  const std::array<std::uint64_t, 4> tagged = {position, words[0], words[1], words[2]};
  const std::size_t place = format::entry_place(position);
  for (std::size_t i = 0; i < words.size(); ++i) set_word(memory, place + i * 8, words[i]);
  set_word(memory, place + 24, xxh3(std::as_bytes(std::span(tagged))));
}

Errc scan_error(HeapFile& heap) {
  const auto content = scan_batch_file(heap.memory(), kTestIdentity);
  return content ? Errc::ok : content.error().code;
}

/// Two entries of the open batch, blocks 0 and 1 in slots 0 and 1.
void make_small_file(HeapFile& heap) {
  BatchFile file = make_file(heap.memory());
  std::vector<SlotRun> runs;
  ASSERT_TRUE(file.allocate(2, runs));
  fill_block(file.slot(0), 100);
  fill_block(file.slot(1), 101);
  const std::array entries = {BatchEntry::make_blocks(Lbn(0), {0, 1}),
                              BatchEntry::make_blocks(Lbn(1), {1, 1})};
  file.publish(entries);
}

TEST(BatchFileDamage, GoldenFileReads) {
  HeapFile heap;
  ASSERT_NO_FATAL_FAILURE(read_golden("batch-file-v1.hex", heap.memory()));
  const auto content = scan_batch_file(heap.memory(), kTestIdentity);
  ASSERT_TRUE(content.has_value());
  EXPECT_EQ(content->condition, BatchFileCondition::live);
  EXPECT_EQ(content->state.epochs, (std::array{Epoch(7), Epoch(9)}));
  EXPECT_EQ(content->state.takeover_base, Sequence(40));
  EXPECT_EQ(content->state.guest, (GuestProcess{4321, 987654}));
  ASSERT_EQ(content->batches.size(), 2U);
  const RecoveredBatch& closed = content->batches[0];
  EXPECT_EQ(closed.sequence, Sequence(42));
  EXPECT_TRUE(closed.flush_mark);
  EXPECT_EQ(closed.end_entry, 16385U);
  EXPECT_EQ(closed.extents,
            (std::vector<snapshot::Extent>{{Lbn(5), 3, snapshot::Where::slot, 2},
                                           {Lbn(8), 1, snapshot::Where::slot, 10},
                                           {Lbn(1000), 24, snapshot::Where::zero, 0}}));
  const RecoveredBatch& open = content->batches[1];
  EXPECT_EQ(open.sequence, std::nullopt);
  EXPECT_EQ(open.disk_bytes, 1U << 20);
  EXPECT_EQ(open.extents, (std::vector<snapshot::Extent>{{Lbn(5), 1, snapshot::Where::slot, 0}}));
  const std::size_t first_slot = kBatchSlotsOffset;
  EXPECT_EQ(heap.memory()[first_slot], std::byte{0xaa});
}

// The golden file goes around the end of the ring, so the same content is made by going around it.
TEST(BatchFileDamage, GoldenFileIsWrittenTheSame) {
  HeapFile golden;
  ASSERT_NO_FATAL_FAILURE(read_golden("batch-file-v1.hex", golden.memory()));
  HeapFile heap;
  BatchFile file = make_file(heap.memory(), Epoch(7));
  std::vector<SlotRun> runs;
  const BatchEntry zero = BatchEntry::make_zero(Lbn(0), 1);
  for (std::uint64_t i = 0; i < kBatchEntries - 4; ++i) {
    file.publish({&zero, 1});
    if (file.can_publish(2) && i + 1 < kBatchEntries - 4) continue;
    file.release_up_to(file.published(), runs);
  }
  ASSERT_EQ(file.published(), kBatchEntries - 4);
  file.begin_takeover(Epoch(7), Epoch(9), Sequence(40));
  file.set_guest({4321, 987654});
  ASSERT_TRUE(file.allocate(11, runs));
  const std::array entries = {BatchEntry::make_blocks(Lbn(5), {2, 3}),
                              BatchEntry::make_zero(Lbn(1000), 24),
                              BatchEntry::make_blocks(Lbn(8), {1, 1}),
                              BatchEntry::make_blocks(Lbn(8), {10, 1})};
  file.publish(entries);
  static_cast<void>(file.close_batch(Sequence(42), true));
  const std::array open = {BatchEntry::make_resize(1 << 20),
                           BatchEntry::make_blocks(Lbn(5), {0, 1})};
  file.publish(open);
  const auto same = [&](std::size_t place, std::size_t bytes) {
    const ByteSpan a = ByteSpan(heap.memory()).subspan(place, bytes);
    const ByteSpan b = ByteSpan(golden.memory()).subspan(place, bytes);
    return std::equal(a.begin(), a.end(), b.begin());
  };
  EXPECT_TRUE(same(0, format::kStateNumberAt));
  EXPECT_TRUE(same(format::kPublishedAt, 8));
  EXPECT_TRUE(same(format::kReleasedAt, 8));
  EXPECT_TRUE(same(format::kStateNumberAt, 8));
  EXPECT_TRUE(same(format::kStateAt[1], 64));
  for (std::uint64_t position = kBatchEntries - 4; position < kBatchEntries + 3; ++position) {
    EXPECT_TRUE(same(format::entry_place(position), kBatchEntryBytes)) << position;
  }
}

TEST(BatchFileDamage, ANewerVersionIsNeverOpened) {
  HeapFile heap;
  make_small_file(heap);
  set_word(heap.memory(), format::kVersionAt, format::kVersion + 1);
  EXPECT_EQ(scan_error(heap), Errc::corrupt);  // damage is never taken for novelty
  sum_header(heap.memory());
  EXPECT_EQ(scan_error(heap), Errc::newer_format);
  EXPECT_EQ(BatchFile::adopt(heap.memory(), kTestIdentity).error(), Errc::newer_format);
}

TEST(BatchFileDamage, ATruncatedFileIsRefused) {
  HeapFile heap;
  make_small_file(heap);
  const ByteSpan memory = heap.memory();
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{4095}}) {
    EXPECT_EQ(scan_batch_file(memory.first(size), kTestIdentity).error(), Errc::corrupt) << size;
  }
  for (const std::size_t size : {std::size_t{4096}, memory.size() - 1}) {
    EXPECT_EQ(scan_batch_file(memory.first(size), kTestIdentity).error(), Errc::corrupt) << size;
  }
}

TEST(BatchFileDamage, EveryFlippedBitThatCountsIsRefused) {
  HeapFile heap;
  make_small_file(heap);
  const MutableBytes memory = heap.memory();
  const std::uint64_t number = format::load_word(memory, format::kStateNumberAt);
  const auto flip_all = [&](std::size_t place, std::size_t bytes) {
    for (std::size_t bit = 0; bit < bytes * 8; ++bit) {
      const auto flip = static_cast<std::byte>(1U << (bit % 8));
      memory[place + bit / 8] ^= flip;
      const Errc error = scan_error(heap);
      EXPECT_TRUE(error == Errc::corrupt || error == Errc::foreign_store)
          << "place " << place << " bit " << bit;
      memory[place + bit / 8] ^= flip;
    }
  };
  flip_all(0, format::kChecksumAt + 8);
  flip_all(format::kStateNumberAt, 8);
  flip_all(format::kStateAt[number % 2], 64);
  flip_all(format::kPublishedAt, 8);
  flip_all(format::kReleasedAt, 8);
  flip_all(format::entry_place(0), 2 * kBatchEntryBytes);
  EXPECT_EQ(scan_error(heap), Errc::ok);
}

TEST(BatchFileDamage, WhatIsNotPublishedDoesNotMatter) {
  HeapFile heap;
  make_small_file(heap);
  const MutableBytes memory = heap.memory();
  const std::uint64_t number = format::load_word(memory, format::kStateNumberAt);
  std::fill_n(memory.begin() + static_cast<std::ptrdiff_t>(format::kStateAt[(number + 1) % 2]),
              64,
              std::byte{0xff});
  const auto rest = memory.subspan(format::entry_place(2));
  std::fill(rest.begin(), rest.begin() + 1000 * kBatchEntryBytes, std::byte{0xff});
  EXPECT_EQ(scan_error(heap), Errc::ok);
}

TEST(BatchFileDamage, ImpossibleEntriesAreCorruptEvenWithARightTag) {
  constexpr std::uint64_t kBlocks = 1;
  constexpr std::uint64_t kZero = 2;
  constexpr std::uint64_t kResize = 3;
  constexpr std::uint64_t kClose = 4;
  constexpr std::uint64_t kEnd = std::uint64_t{1} << 36;
  const auto in_slot = [](std::uint64_t slot) { return kBlocks | (slot << 16); };
  const std::vector<std::array<std::uint64_t, 3>> impossible = {
      {0, 0, 1},                         // no kind
      {5, 0, 1},                         // unknown kind
      {in_slot(kBatchSlots), 5, 1},      // beyond the slots
      {in_slot(kBatchSlots - 1), 5, 2},  // runs out of them
      {in_slot(0), 5, ~std::uint64_t{0}},
      {in_slot(0), 5, 0},
      {in_slot(0), kEnd, 1},
      {in_slot(0), kEnd - 1, 2},
      {in_slot(0) | 0x100, 5, 1},  // a flush mark on blocks
      {in_slot(0) | (std::uint64_t{1} << 32), 5, 1},
      {kZero, 0, kEnd + 1},
      {kZero, 1, kEnd},
      {kZero | (std::uint64_t{1} << 16), 0, 1},
      {kResize, 0, 0},
      {kResize, 511, 0},
      {kResize, limits::kDiskBytesMax + 512, 0},
      {kResize, 512, 1},
      {kClose, 0, 0},
      {kClose | 0x200, 1, 0},
      {kClose, 1, 1},
  };
  for (const auto& words : impossible) {
    HeapFile heap;
    make_small_file(heap);
    set_entry(heap.memory(), 1, words);
    EXPECT_EQ(scan_error(heap), Errc::corrupt)
        << std::hex << words[0] << " " << words[1] << " " << words[2];
  }
}

TEST(BatchFileDamage, ASlotThatTwoBlocksNameIsCorrupt) {
  HeapFile heap;
  make_small_file(heap);
  set_entry(heap.memory(), 1, {1, 7, 1});  // block 7 in slot 0, where block 0 is
  EXPECT_EQ(scan_error(heap), Errc::corrupt);
}

TEST(BatchFileDamage, SequencesThatFallAreCorrupt) {
  HeapFile heap;
  make_small_file(heap);
  set_entry(heap.memory(), 0, {4, 9, 0});
  set_entry(heap.memory(), 1, {4, 9, 0});
  EXPECT_EQ(scan_error(heap), Errc::corrupt);
  set_entry(heap.memory(), 1, {4, 10, 0});
  EXPECT_EQ(scan_error(heap), Errc::ok);
}

TEST(BatchFileDamage, CountsThatCannotBeAreCorrupt) {
  HeapFile heap;
  make_small_file(heap);
  const MutableBytes memory = heap.memory();
  set_word(memory, format::kReleasedAt, format::encode_count(3));  // above published
  EXPECT_EQ(scan_error(heap), Errc::corrupt);
  set_word(memory, format::kReleasedAt, format::encode_count(0));
  set_word(memory, format::kPublishedAt, format::encode_count(kBatchEntries + 1));
  EXPECT_EQ(scan_error(heap), Errc::corrupt);
  set_word(memory, format::kPublishedAt, format::encode_count(3));  // one more than there are
  EXPECT_EQ(scan_error(heap), Errc::corrupt);
}

TEST(BatchFileDamage, RandomBytesAreRefused) {
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    HeapFile heap;
    Random random(seed);
    const MutableBytes memory = heap.memory();
    for (std::size_t place = 0; place < 3 * kBatchHeaderBytes; place += 8) {
      set_word(memory, place, random.u64());
    }
    EXPECT_EQ(scan_error(heap), Errc::foreign_store);
    set_word(memory, 0, format::kMagic);
    EXPECT_EQ(scan_error(heap), Errc::corrupt);
  }
}

}  // namespace
}  // namespace vmstore::disk
