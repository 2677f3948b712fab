// SPDX-License-Identifier: Apache-2.0
// The calls of BlockStore one by one, without faults.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "tests/unit/storaged/store_fixture.h"

namespace vmstore::storaged {
namespace {

Errc code_of(const auto& result) {
  return result ? Errc::ok : result.error().code;
}

TEST(BlockStore, AppendedBlocksAreReadBack) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  const auto created = machine.create(key);
  ASSERT_TRUE(created);
  EXPECT_EQ(created->length, key.length());
  machine.append_well(key, 1, 1);
  machine.append_well(key, 0, 2);
  machine.append_well(key, 16, 3);
  machine.append_well(key, 17, 4);
  machine.append_well(key, 128, 5);
  EXPECT_EQ(machine.compare(key, 5), "");
  machine.stop();
}

TEST(BlockStore, EverythingIsThereAfterAnOrderlyStop) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  for (std::uint64_t i = 0; i < 20; ++i) machine.append_well(key, i % 3 == 0 ? 40 : 2, i);
  machine.stop();
  machine.start_well();
  EXPECT_EQ(machine.store().journal_used_bytes(), 0U);
  const auto info = machine.store().info(key.key());
  ASSERT_TRUE(info);
  EXPECT_EQ(info->length, key.length());
  EXPECT_EQ(machine.compare(key, 20), "");
  machine.append_well(key, 3, 99);
  EXPECT_EQ(machine.compare(key, 21), "");
  machine.stop();
}

TEST(BlockStore, AnsweredAppendsSurviveAPowerCut) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Machine machine(seed);
    machine.start_well();
    KeyModel key(key_number(seed));
    ASSERT_TRUE(machine.create(key));
    for (std::uint64_t i = 0; i < 10; ++i) machine.append_well(key, i % 4 == 0 ? 40 : 2, i);
    machine.power_cut();
    machine.start_well();
    const auto info = machine.store().info(key.key());
    ASSERT_TRUE(info);
    EXPECT_FALSE(info->damaged);
    EXPECT_EQ(info->length, key.length());
    EXPECT_EQ(machine.compare(key, 10), "");
    machine.stop();
  }
}

TEST(BlockStore, TheRingIsUsedManyTimes) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  for (std::uint64_t i = 0; i < 400; ++i) machine.append_well(key, 4, i);  // 6.4 MiB through 1 MiB
  EXPECT_EQ(machine.compare(key, 400), "");
  machine.power_cut();
  machine.start_well();
  EXPECT_EQ(machine.store().info(key.key())->length, key.length());
  EXPECT_EQ(machine.compare(key, 400), "");
  machine.stop();
}

TEST(BlockStore, AppendAtWrongOffsetIsRefused) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  machine.append_well(key, 2, 1);
  KeyModel ahead = key;
  static_cast<void>(ahead.next(1, 2));
  EXPECT_EQ(code_of(machine.append(ahead.next(1, 3))), Errc::wrong_offset);
  machine.append_well(key, 2, 2);
  machine.stop();
}

TEST(BlockStore, C4_append_never_creates_key) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  EXPECT_EQ(code_of(machine.append(key.next(1, 1))), Errc::not_found);
  EXPECT_TRUE(machine.store().list().empty());
  machine.stop();
}

TEST(BlockStore, NewKeysLeaveAPartOfTheReserveAlone) {
  Machine machine;
  machine.options.reserve_bytes = 4 * limits::kMiB;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  machine.files.set_capacity(machine.files.used_bytes() + limits::kMiB / 2);
  const KeyModel another(key_number(1));
  EXPECT_EQ(code_of(machine.create(another)), Errc::no_space);
  machine.append_well(key, 2, 1);  // what was acknowledged may use it
  machine.stop();
}

TEST(BlockStore, TheSameAppendAgainIsAnsweredAsDone) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  machine.append_well(key, 2, 1);
  KeyModel repeated = key;
  const AppendRequest again = repeated.next(3, 2);
  machine.append_well(key, 3, 2);
  EXPECT_EQ(code_of(machine.append(again)), Errc::ok);
  EXPECT_EQ(machine.store().info(key.key())->length, key.length());

  KeyModel other(key_number(0));
  static_cast<void>(other.next(2, 1));
  EXPECT_EQ(code_of(machine.append(other.next(3, 77))), Errc::wrong_offset);
  machine.stop();
}

TEST(BlockStore, FencedTokensAreRefused) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  machine.append_well(key, 2, 1);
  const auto fenced = machine.fence(key, Epoch(5));
  ASSERT_TRUE(fenced);
  EXPECT_EQ(fenced->state.length, key.length());
  EXPECT_EQ(fenced->state.token, Epoch(5));
  EXPECT_EQ(fenced->last_record, key.records().back().bytes);
  KeyModel old = key;
  EXPECT_EQ(code_of(machine.append(old.next(1, 2))), Errc::stale_token);
  EXPECT_EQ(code_of(machine.fence(key, Epoch(4))), Errc::stale_token);
  key.set_token(Epoch(5));
  machine.append_well(key, 1, 3);
  machine.stop();
}

TEST(BlockStore, F4_fence_survives_crash) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Machine machine(seed);
    machine.start_well();
    KeyModel key(key_number(0));
    ASSERT_TRUE(machine.create(key));
    machine.append_well(key, 2, 1);
    ASSERT_TRUE(machine.fence(key, Epoch(5)));
    machine.power_cut();
    machine.start_well();
    KeyModel old = key;
    EXPECT_EQ(code_of(machine.append(old.next(1, 2))), Errc::stale_token);
    machine.power_cut();
    machine.start_well();
    EXPECT_EQ(machine.store().info(key.key())->token, Epoch(5));
    machine.stop();
  }
}

// Goal: with two copies, an owner that was fenced on one of them is told nothing by the other after
// that was put back from a copy of before its fence. What was there is read on; nothing is added.
TEST(BlockStore, H4_key_of_an_earlier_incarnation_takes_no_append) {
  for (const bool orderly : {true, false}) {  // the key's head, or the ring
    Machine machine;
    machine.start_well();
    KeyModel key(key_number(0));
    ASSERT_TRUE(machine.create(key));
    machine.append_well(key, 2, 1);
    orderly ? machine.stop() : machine.power_cut();
    machine.incarnation = Incarnation{5, 6};
    machine.start_well();
    KeyModel late = key;
    EXPECT_EQ(code_of(machine.append(late.next(1, 2))), Errc::unknown);
    EXPECT_EQ(code_of(machine.create(KeyModel(key_number(0)))), Errc::exists);
    EXPECT_EQ(machine.compare(key, 1), "");
    EXPECT_EQ(machine.fence(key, Epoch(2))->state.incarnation, machine.incarnation);
    KeyModel fresh(key_number(1));
    ASSERT_TRUE(machine.create(fresh));
    machine.append_well(fresh, 1, 3);
    machine.stop();
  }
}

// After an orderly stop the ring is empty: the key's head has the fence.
TEST(BlockStore, F4_fence_survives_the_ring_that_had_it) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  machine.append_well(key, 2, 1);
  ASSERT_TRUE(machine.fence(key, Epoch(5)));
  for (int start = 0; start < 2; ++start) {
    machine.stop();
    machine.start_well();
    KeyModel old = key;
    EXPECT_EQ(code_of(machine.append(old.next(1, 2))), Errc::stale_token);
    EXPECT_EQ(machine.store().info(key.key())->token, Epoch(5));
  }
  machine.stop();
}

TEST(BlockStore, ASealedKeyTakesNoMore) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  for (std::uint64_t i = 0; i < 4; ++i) machine.append_well(key, 2, i);
  const KeyLength full = key.length();
  KeyLength middle = key.records()[1].end;
  middle.log_bytes += 8;
  auto& store = machine.store();
  EXPECT_EQ(code_of(machine.run(store.seal(key.key(), Epoch(1), middle))), Errc::wrong_offset);
  const KeyLength cut = key.records()[2].end;
  const auto sealed = machine.run(store.seal(key.key(), Epoch(2), cut));
  ASSERT_TRUE(sealed);
  EXPECT_EQ(*sealed, cut);
  EXPECT_EQ(code_of(machine.run(store.seal(key.key(), Epoch(2), cut))), Errc::ok);
  EXPECT_EQ(code_of(machine.run(store.seal(key.key(), Epoch(2), full))), Errc::wrong_offset);
  KeyModel more = key;
  more.cut(cut);
  more.set_token(Epoch(2));
  EXPECT_EQ(code_of(machine.append(more.next(1, 9))), Errc::sealed);
  machine.power_cut();
  machine.start_well();
  EXPECT_TRUE(machine.store().info(key.key())->sealed);
  EXPECT_EQ(machine.store().info(key.key())->length, cut);
  EXPECT_EQ(machine.compare(key, 3), "");
  EXPECT_EQ(machine.read_error(key.key(), 6), Errc::not_found);
  machine.stop();
}

TEST(BlockStore, PunchedBlocksAreErrorsNotZeros) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  for (std::uint64_t i = 0; i < 4; ++i) machine.append_well(key, 8, i);
  std::vector<BlockRun> runs{{BlockIndex{4}, 8}, {BlockIndex{10}, 4}};
  auto& store = machine.store();
  ASSERT_TRUE(machine.run(store.free_private(key.key(), Epoch(1), kDisk, runs)));
  for (std::uint64_t block = 0; block < 32; ++block) {
    const bool gone = block >= 4 && block < 14;
    EXPECT_EQ(machine.read_error(key.key(), block), gone ? Errc::punched : Errc::ok) << block;
  }
  machine.power_cut();
  machine.start_well();
  const std::vector<BlockRun> left{{BlockIndex{0}, 4}, {BlockIndex{14}, 18}};
  EXPECT_EQ(*machine.run(machine.store().present_blocks(key.key())), left);
  EXPECT_EQ(machine.read_error(key.key(), 4), Errc::punched);
  EXPECT_EQ(machine.store().info(key.key())->length, key.length());
  machine.stop();
}

TEST(BlockStore, NumberOfARemovedKeyIsNotUsedAgain) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  ASSERT_TRUE(machine.run(machine.store().remove(key.key())));
  EXPECT_EQ(code_of(machine.create(key)), Errc::exists);
  // The replay of its removal would take a second life of it as well.
  machine.power_cut();
  machine.start_well();
  EXPECT_EQ(code_of(machine.create(key)), Errc::exists);
  machine.stop();
}

TEST(BlockStore, RemovedKeysAreGoneForGood) {
  Machine machine;
  machine.start_well();
  KeyModel key(key_number(0));
  ASSERT_TRUE(machine.create(key));
  machine.append_well(key, 8, 1);
  ASSERT_TRUE(machine.run(machine.store().remove(key.key())));
  EXPECT_EQ(code_of(machine.store().info(key.key())), Errc::not_found);
  machine.power_cut();
  machine.start_well();
  EXPECT_EQ(code_of(machine.store().info(key.key())), Errc::not_found);
  EXPECT_EQ(*machine.run(machine.store().used_bytes()), 0U);
  machine.stop();
}

}  // namespace
}  // namespace vmstore::storaged
