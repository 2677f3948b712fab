// SPDX-License-Identifier: Apache-2.0
#include "disk/batch_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/unit/disk_batch_file/batch_workload.h"

namespace vmstore::disk {
namespace {

/// One block written and published.
SlotRun write_block(BatchFile& file, std::uint64_t lbn, std::uint64_t id) {
  std::vector<SlotRun> runs;
  EXPECT_TRUE(file.allocate(1, runs));
  fill_block(file.slot(runs[0].first), id);
  const BatchEntry entry = BatchEntry::make_blocks(Lbn(lbn), runs[0]);
  file.publish({&entry, 1});
  return runs[0];
}

BatchFileContent scan(HeapFile& heap) {
  auto content = scan_batch_file(heap.memory(), kTestIdentity);
  EXPECT_TRUE(content.has_value());
  return content ? std::move(*content) : BatchFileContent();
}

ModelBatch batch(std::optional<Sequence> sequence, std::map<std::uint64_t, std::uint64_t> blocks) {
  return {sequence, false, {}, std::move(blocks)};
}

// ---- basics ----

TEST(BatchFile, HasRoomForTheBatchesInFlight) {
  EXPECT_GE(kBatchSlots, 1900U);
  EXPECT_LE(kBatchSlotsOffset + std::size_t{kBatchSlots} * kBlockBytes, limits::kBatchFileBytes);
  EXPECT_EQ(kBatchSlotsOffset % kBlockBytes, 0U);
  EXPECT_GE(kBatchSlots, 8 * limits::kBatchBlocks + 256);
}

TEST(BatchFile, ANewOneIsLiveAndEmpty) {
  HeapFile heap;
  EXPECT_EQ(scan(heap).condition, BatchFileCondition::blank);
  const BatchFile file = make_file(heap.memory(), Epoch(7));
  const BatchFileContent content = scan(heap);
  EXPECT_EQ(content.condition, BatchFileCondition::live);
  EXPECT_EQ(content.identity, kTestIdentity);
  EXPECT_TRUE(content.state.names(Epoch(7)));
  EXPECT_FALSE(content.state.names(Epoch()));
  EXPECT_TRUE(content.batches.empty());
  EXPECT_TRUE(file.empty());
}

TEST(BatchFile, WhatIsPublishedIsFoundInOrder) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  write_block(file, 10, 100);
  const BatchEntry zero = BatchEntry::make_zero(Lbn(20), std::uint64_t{1} << 35);
  file.publish({&zero, 1});
  EXPECT_EQ(file.close_batch(Sequence(5), true), 3U);
  const BatchEntry resize = BatchEntry::make_resize(1 << 30);
  file.publish({&resize, 1});
  write_block(file, 11, 101);
  const BatchFileContent content = scan(heap);
  ASSERT_EQ(content.batches.size(), 2U);
  const RecoveredBatch& closed = content.batches[0];
  EXPECT_EQ(closed.sequence, Sequence(5));
  EXPECT_TRUE(closed.flush_mark);
  EXPECT_EQ(closed.end_entry, 3U);
  ASSERT_EQ(closed.extents.size(), 2U);
  EXPECT_EQ(closed.extents[1].where, snapshot::Where::zero);
  EXPECT_EQ(closed.extents[1].blocks, std::uint64_t{1} << 35);
  EXPECT_EQ(model_of(content.batches[1], heap.memory()).blocks,
            (std::map<std::uint64_t, std::uint64_t>{{11, 101}}));
  EXPECT_EQ(content.batches[1].disk_bytes, 1U << 30);
  EXPECT_EQ(content.batches[1].sequence, std::nullopt);
}

TEST(BatchFile, ARewriteInTheOpenBatchIsFoundOnce) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  const SlotRun old = write_block(file, 10, 100);
  write_block(file, 10, 101);
  file.free_slots(old);
  EXPECT_EQ(scan_model(heap.memory()), Model{batch({}, {{10, 101}})});
}

// The content that was acknowledged stays whole while the next one is copied in.
TEST(BatchFile, C1_killed_inside_rewrite) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  write_block(file, 10, 100);
  for (std::uint64_t id = 101; id < 5000; ++id) {
    const Model before{batch({}, {{10, id - 1}})};
    std::vector<SlotRun> runs;
    ASSERT_TRUE(file.allocate(1, runs));
    fill_block(file.slot(runs[0].first).first(kBlockBytes / 2), id);
    ASSERT_EQ(scan_model(heap.memory()), before);
    fill_block(file.slot(runs[0].first), id);
    ASSERT_EQ(scan_model(heap.memory()), before);
    const auto content = scan(heap);
    const auto old = static_cast<std::uint32_t>(content.batches[0].extents[0].place);
    const BatchEntry entry = BatchEntry::make_blocks(Lbn(10), runs[0]);
    file.publish({&entry, 1});
    file.free_slots({old, 1});
    if (id % 100 == 0) {
      std::vector<SlotRun> released;
      file.release_up_to(file.close_batch(Sequence(id), false), released);
      for (const SlotRun& run : released) file.free_slots(run);
      write_block(file, 10, id);
    }
  }
}

TEST(BatchFile, AWriteOfManyRunsIsPublishedAtOnce) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  std::vector<SlotRun> all;
  ASSERT_TRUE(file.allocate(kBatchSlots, all));
  ASSERT_EQ(all, (std::vector<SlotRun>{{0, kBatchSlots}}));
  for (std::uint32_t slot = 0; slot < 512; slot += 2) file.free_slots({slot, 1});
  std::vector<SlotRun> runs;
  ASSERT_TRUE(file.allocate(256, runs));
  ASSERT_EQ(runs.size(), 256U);
  std::vector<BatchEntry> entries;
  for (const SlotRun& run : runs) {
    fill_block(file.slot(run.first), 9);
    entries.push_back(BatchEntry::make_blocks(Lbn(entries.size()), run));
  }
  EXPECT_TRUE(scan(heap).batches.empty());
  file.publish(entries);
  EXPECT_EQ(model_of(scan(heap).batches.at(0), heap.memory()).blocks.size(), 256U);
}

// ---- giving back ----

TEST(BatchFile, ReleasedBatchesAreGoneAndTheirSlotsComeBack) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  write_block(file, 1, 100);
  const std::uint64_t first = file.close_batch(Sequence(1), false);
  write_block(file, 1, 101);
  const std::uint64_t second = file.close_batch(Sequence(2), false);
  std::vector<SlotRun> runs;
  file.release_up_to(first, runs);
  EXPECT_EQ(runs, (std::vector<SlotRun>{{0, 1}}));
  EXPECT_EQ(file.free_slot_count(), kBatchSlots - 2);
  file.free_slots(runs[0]);
  EXPECT_EQ(file.free_slot_count(), kBatchSlots - 1);
  EXPECT_EQ(scan_model(heap.memory()), Model{batch(Sequence(2), {{1, 101}})});
  runs.clear();
  file.release_up_to(second, runs);
  file.free_slots(runs.at(0));
  EXPECT_EQ(file.free_slot_count(), kBatchSlots);
  EXPECT_TRUE(file.empty());
  EXPECT_TRUE(scan(heap).batches.empty());
}

TEST(BatchFile, ASupersededSlotThatIsInUseAgainIsNotGivenBackTwice) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  std::vector<SlotRun> rest;
  ASSERT_TRUE(file.allocate(kBatchSlots - 2, rest));
  const SlotRun old = write_block(file, 1, 100);
  const SlotRun next = write_block(file, 1, 101);
  file.free_slots(old);
  const std::uint64_t first = file.close_batch(Sequence(1), false);
  EXPECT_EQ(write_block(file, 2, 102), old);
  std::vector<SlotRun> runs;
  file.release_up_to(first, runs);
  EXPECT_EQ(runs, std::vector<SlotRun>{next});
  EXPECT_EQ(scan_model(heap.memory()), Model{batch({}, {{2, 102}})});
}

TEST(BatchFile, AFullFileSaysSoAndTakesNothing) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  std::vector<SlotRun> runs;
  EXPECT_FALSE(file.allocate(kBatchSlots + 1, runs));
  EXPECT_TRUE(runs.empty());
  EXPECT_EQ(file.free_slot_count(), kBatchSlots);
  const BatchEntry zero = BatchEntry::make_zero(Lbn(0), 1);
  while (file.can_publish(1)) file.publish({&zero, 1});
  EXPECT_EQ(file.free_entry_count(), 1U);
  const std::uint64_t end = file.close_batch(Sequence(1), false);  // always has room
  EXPECT_EQ(file.free_entry_count(), 0U);
  EXPECT_EQ(scan(heap).batches.size(), 1U);
  file.release_up_to(end, runs);
  EXPECT_EQ(file.free_entry_count(), kBatchEntries);
}

TEST(BatchFile, EntriesOfAnEarlierLapAreNeverTaken) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  std::vector<SlotRun> runs;
  for (std::uint64_t i = 1; i <= 3 * kBatchEntries; ++i) {
    const BatchEntry zero = BatchEntry::make_zero(Lbn(i), 1);
    file.publish({&zero, 1});
    if (i % 1000 == 0) file.release_up_to(file.close_batch(Sequence(i), false), runs);
  }
  const BatchFileContent content = scan(heap);
  ASSERT_EQ(content.batches.size(), 1U);
  EXPECT_EQ(content.batches[0].extents.back().lbn.value + content.batches[0].extents.back().blocks,
            3 * kBatchEntries + 1);
}

// ---- epochs, takeover, guest ----

TEST(BatchFile, TheEpochThatIsAboutToWriteIsNamedBesideTheWriter) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory(), Epoch(1));
  write_block(file, 0, 1);
  file.name_epoch(Epoch(1), Epoch(5));
  const BatchFileContent content = scan(heap);
  EXPECT_TRUE(content.state.names(Epoch(1)));
  EXPECT_TRUE(content.state.names(Epoch(5)));
  EXPECT_FALSE(content.state.names(Epoch(4)));
}

TEST(BatchFile, OnlyBatchesThatTheLogDoesNotHaveAreMissing) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  write_block(file, 0, 1);
  static_cast<void>(file.close_batch(Sequence(11), false));
  write_block(file, 1, 2);
  static_cast<void>(file.close_batch(Sequence(13), false));
  write_block(file, 2, 3);
  const BatchFileContent content = scan(heap);
  EXPECT_EQ(content.missing_after(Sequence(10)).size(), 3U);
  EXPECT_EQ(content.missing_after(Sequence(11)).size(), 2U);
  EXPECT_EQ(content.missing_after(Sequence(12)).size(), 2U);
  ASSERT_EQ(content.missing_after(Sequence(13)).size(), 1U);
  EXPECT_EQ(content.missing_after(Sequence(100))[0].sequence, std::nullopt);
}

// The takeover's own records take sequences that the file's batches have too: a second takeover
// must not believe that those batches are in the log.
TEST(BatchFile, R2_a_takeover_that_died_is_done_again_whole) {
  HeapFile heap;
  {
    BatchFile file = make_file(heap.memory(), Epoch(1));
    write_block(file, 0, 1);
    static_cast<void>(file.close_batch(Sequence(11), false));
    write_block(file, 1, 2);
    static_cast<void>(file.close_batch(Sequence(14), false));
    write_block(file, 2, 3);
  }
  {
    auto second = BatchFile::adopt(heap.memory(), kTestIdentity);
    ASSERT_TRUE(second.has_value());
    second->begin_takeover(Epoch(1), Epoch(2), Sequence(10));
    // It appended a page record as 11 and the first batch as 12, closed the open batch, and died.
    static_cast<void>(second->close_batch(Sequence(13), false));
  }
  auto third = BatchFile::adopt(heap.memory(), kTestIdentity);
  ASSERT_TRUE(third.has_value());
  EXPECT_TRUE(third->state().names(Epoch(2)));
  EXPECT_EQ(scan(heap).missing_after(Sequence(12)).size(), 3U);
  third->begin_takeover(Epoch(2), Epoch(3), Sequence(12));
  const BatchFileContent content = scan(heap);
  EXPECT_EQ(content.state.takeover_base, Sequence(10));
  EXPECT_EQ(content.missing_after(Sequence(12)).size(), 3U);
  EXPECT_FALSE(third->takeover_is_done());
  std::vector<SlotRun> runs;
  third->release_up_to(content.batches.back().end_entry, runs);
  EXPECT_TRUE(third->takeover_is_done());
  write_block(*third, 5, 6);
  static_cast<void>(third->close_batch(Sequence(16), false));
  third->end_takeover();
  EXPECT_TRUE(third->state().names(Epoch(3)));
  EXPECT_FALSE(third->state().names(Epoch(2)));
  EXPECT_EQ(scan(heap).missing_after(Sequence(16)).size(), 0U);
  EXPECT_EQ(scan(heap).missing_after(Sequence(15)).size(), 1U);
}

TEST(BatchFile, AnOpenBatchLeftBehindCanBeReleasedWithoutAClose) {
  HeapFile heap;
  {
    BatchFile file = make_file(heap.memory());
    write_block(file, 2, 3);
  }
  auto next = BatchFile::adopt(heap.memory(), kTestIdentity);
  ASSERT_TRUE(next.has_value());
  std::vector<SlotRun> runs;
  next->release_up_to(scan(heap).batches.at(0).end_entry, runs);
  EXPECT_EQ(runs.size(), 1U);
  EXPECT_TRUE(next->empty());
}

TEST(BatchFile, TheGuestIsReplacedAsAWhole) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  file.set_guest({100, 12345});
  EXPECT_EQ(scan(heap).state.guest, (GuestProcess{100, 12345}));
  file.set_guest({200, 99});
  EXPECT_EQ(scan(heap).state.guest, (GuestProcess{200, 99}));
  EXPECT_EQ(scan(heap).state.epochs[0], Epoch(1));
}

/// Scans after every store and keeps what it saw.
struct CreateWatch {
  HeapFile* heap;
  std::set<BatchFileCondition> seen;
  static void look(void* context) {
    auto* const self = static_cast<CreateWatch*>(context);
    const auto content = scan_batch_file(self->heap->memory(), kTestIdentity);
    ASSERT_TRUE(content.has_value());
    self->seen.insert(content->condition);
    if (content->condition == BatchFileCondition::live) {
      EXPECT_TRUE(content->batches.empty());
    }
  }
};

BatchFileState state_of(Epoch epoch) {
  BatchFileState state;
  state.epochs[0] = epoch;
  return state;
}

TEST(BatchFile, CreatingOverALiveFileNeverLeavesABlankOne) {
  HeapFile heap;
  {
    BatchFile file = make_file(heap.memory(), Epoch(1));
    write_block(file, 0, 1);
  }
  CreateWatch watch{&heap, {}};
  BatchFile next = BatchFile::create(
      heap.memory(), kTestIdentity, state_of(Epoch(2)), &CreateWatch::look, &watch);
  EXPECT_EQ(watch.seen, std::set{BatchFileCondition::live});
  EXPECT_TRUE(next.empty());
  EXPECT_EQ(next.free_slot_count(), kBatchSlots);
  EXPECT_TRUE(scan(heap).state.names(Epoch(2)));
  next.set_store_hook(nullptr, nullptr);
  write_block(next, 3, 4);
  EXPECT_EQ(scan_model(heap.memory()), Model{batch({}, {{3, 4}})});
}

TEST(BatchFile, CreatingOverAnythingElseIsBlankUntilItIsDone) {
  HeapFile heap;
  const MutableBytes memory = heap.memory();
  std::fill_n(memory.begin(), 2 * kBatchHeaderBytes, std::byte{0x5a});
  CreateWatch watch{&heap, {}};
  const BatchFile file =
      BatchFile::create(memory, kTestIdentity, state_of(Epoch(2)), &CreateWatch::look, &watch);
  EXPECT_EQ(watch.seen, (std::set{BatchFileCondition::blank, BatchFileCondition::live}));
  EXPECT_TRUE(scan(heap).state.names(Epoch(2)));
}

// ---- what the next session must do ----

/// A file of epoch 5 with a closed batch of sequence 11.
BatchFileContent file_with_batch() {
  HeapFile heap;
  BatchFile file = make_file(heap.memory(), Epoch(5));
  write_block(file, 0, 1);
  static_cast<void>(file.close_batch(Sequence(11), false));
  return scan(heap);
}

TEST(LeftOver, WhatTheLogDoesNotHaveIsAppended) {
  const BatchFileContent content = file_with_batch();
  const RecordedWriter writer{Epoch(5), false, true};
  EXPECT_EQ(judge_left_over(&content, writer, Sequence(10)), LeftOver::append);
  EXPECT_EQ(judge_left_over(&content, writer, Sequence(11)), LeftOver::nothing);
}

// The other session's records have sequences that the file's batches have too: they prove nothing.
TEST(LeftOver, C1_another_host_wrote_since) {
  const BatchFileContent content = file_with_batch();
  for (const bool is_clean : {false, true}) {
    const RecordedWriter other{Epoch(6), is_clean, false};
    EXPECT_EQ(judge_left_over(&content, other, Sequence(10)), LeftOver::lost);
    EXPECT_EQ(judge_left_over(&content, other, Sequence(100)), LeftOver::lost);
  }
}

TEST(LeftOver, C1_batch_file_removed) {
  const RecordedWriter dead{Epoch(5), false, true};
  EXPECT_EQ(judge_left_over(nullptr, dead, Sequence(10)), LeftOver::lost);
  BatchFileContent content;
  EXPECT_EQ(judge_left_over(&content, dead, Sequence(10)), LeftOver::lost);
  content.condition = BatchFileCondition::other_boot;
  EXPECT_EQ(judge_left_over(&content, dead, Sequence(10)), LeftOver::lost);
  content.condition = BatchFileCondition::live;  // an empty file, but of another session
  content.state.epochs[0] = Epoch(3);
  EXPECT_EQ(judge_left_over(&content, dead, Sequence(10)), LeftOver::lost);
}

TEST(LeftOver, AWriterWithoutAFileHereLeavesNothing) {
  const RecordedWriter released{Epoch(5), true, true};
  EXPECT_EQ(judge_left_over(nullptr, released, Sequence(10)), LeftOver::nothing);
  const RecordedWriter elsewhere{Epoch(5), false, false};
  EXPECT_EQ(judge_left_over(nullptr, elsewhere, Sequence(10)), LeftOver::nothing);
  const BatchFileContent blank;
  EXPECT_EQ(judge_left_over(&blank, elsewhere, Sequence(10)), LeftOver::nothing);
}

// The file names the next epoch before the record does: a death in between leaves either.
TEST(LeftOver, R1_a_death_around_the_cas_of_the_writer_is_not_a_loss) {
  HeapFile heap;
  {
    BatchFile file = make_file(heap.memory(), Epoch(5));
    file.name_epoch(Epoch(5), Epoch(7));
  }
  const BatchFileContent content = scan(heap);
  for (const Epoch epoch : {Epoch(5), Epoch(7)}) {
    const RecordedWriter writer{epoch, false, true};
    EXPECT_EQ(judge_left_over(&content, writer, Sequence(10)), LeftOver::nothing);
  }
}

// ---- who it belongs to ----

TEST(BatchFile, AFileOfAnotherDiskOrStoreIsForeign) {
  HeapFile heap;
  const BatchFile file = make_file(heap.memory());
  BatchFileIdentity other = kTestIdentity;
  other.disk.low ^= 1;
  EXPECT_EQ(scan_batch_file(heap.memory(), other).error(), Errc::foreign_store);
  EXPECT_EQ(BatchFile::adopt(heap.memory(), other).error(), Errc::foreign_store);
  other = kTestIdentity;
  other.store.high ^= 1;
  EXPECT_EQ(scan_batch_file(heap.memory(), other).error(), Errc::foreign_store);
}

TEST(BatchFile, AFileOfAnotherBootIsVoid) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  write_block(file, 0, 1);
  BatchFileIdentity later = kTestIdentity;
  later.boot.low ^= 1;
  const auto content = scan_batch_file(heap.memory(), later);
  ASSERT_TRUE(content.has_value());
  EXPECT_EQ(content->condition, BatchFileCondition::other_boot);
  EXPECT_TRUE(content->batches.empty());
  EXPECT_EQ(BatchFile::adopt(heap.memory(), later).error(), Errc::not_found);
}

// ---- misuse is a bug ----

using BatchFileDeathTest = ::testing::Test;

TEST(BatchFileDeathTest, APublishedSlotOfAClosedBatchCannotBeFreed) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  const SlotRun old = write_block(file, 0, 1);
  static_cast<void>(file.close_batch(Sequence(1), false));
  EXPECT_DEATH(file.free_slots(old), "users_");
}

TEST(BatchFileDeathTest, ASlotCannotBePublishedTwice) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  const BatchEntry again = BatchEntry::make_blocks(Lbn(0), write_block(file, 0, 1));
  EXPECT_DEATH(file.publish({&again, 1}), "kAllocated");
}

TEST(BatchFileDeathTest, AFreeSlotCannotBeFreedOrPublished) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  EXPECT_DEATH(file.free_slots({7, 1}), "users_");
  const BatchEntry entry = BatchEntry::make_blocks(Lbn(0), {7, 1});
  EXPECT_DEATH(file.publish({&entry, 1}), "kAllocated");
}

TEST(BatchFileDeathTest, SequencesRise) {
  HeapFile heap;
  BatchFile file = make_file(heap.memory());
  static_cast<void>(file.close_batch(Sequence(4), false));
  EXPECT_DEATH(static_cast<void>(file.close_batch(Sequence(4), false)), "last_sequence_");
}

}  // namespace
}  // namespace vmstore::disk
