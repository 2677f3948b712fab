// SPDX-License-Identifier: Apache-2.0
// The block store on devices that are full, that fail, and that changed behind its back.
#include <gtest/gtest.h>

#include <cerrno>

#include "storaged/journal.h"
#include "storaged/key_files.h"
#include "tests/unit/storaged/store_fixture.h"

namespace vmstore::storaged {
namespace {

using sim::FileFault;
using sim::FileOperation;

Errc code_of(const auto& result) {
  return result ? Errc::ok : result.error().code;
}

constexpr Error kEio(Errc::io_error, 5);
constexpr Error kEnospc(Errc::no_space, 28);

FileFault fault(FileOperation operation, std::string path_part, Error error, bool repeat = false) {
  FileFault fault;
  fault.operation = operation;
  fault.path_part = std::move(path_part);
  fault.error = error;
  fault.repeat = repeat;
  return fault;
}

/// Two keys with some records each, on a running machine.
class StoreFaults : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.start_well();
    ASSERT_TRUE(machine_.create(one_));
    ASSERT_TRUE(machine_.create(two_));
    for (std::uint64_t i = 0; i < 3; ++i) {
      machine_.append_well(one_, 2, i);
      machine_.append_well(two_, 20, 10 + i);
    }
  }
  void TearDown() override {
    machine_.files.clear_faults();
    if (machine_.runs()) machine_.stop();
  }

  /// Everything about `key` is "I cannot tell", and nothing is "it is not there".
  void expect_unknown(KeyModel key) {
    const auto info = machine_.store().info(key.key());
    ASSERT_TRUE(info);
    EXPECT_TRUE(info->damaged);
    EXPECT_EQ(code_of(machine_.fence(key, Epoch(100))), Errc::unknown);
    EXPECT_EQ(code_of(machine_.append(key.next(1, 1))), Errc::unknown);
    EXPECT_EQ(code_of(machine_.run(machine_.store().present_blocks(key.key()))), Errc::unknown);
  }
  void expect_whole(KeyModel& key) {
    const auto info = machine_.store().info(key.key());
    ASSERT_TRUE(info);
    EXPECT_FALSE(info->damaged);
    EXPECT_EQ(info->length, key.length());
    EXPECT_EQ(machine_.compare(key, key.records().size()), "");
  }
  /// It takes no append any more, and has all that was answered.
  void expect_sealed_whole(KeyModel key, Epoch token) {
    const auto fenced = machine_.fence(key, token);
    ASSERT_TRUE(fenced) << to_string(fenced.error());
    EXPECT_EQ(fenced->state.length, key.length());
    expect_whole(key);
    key.set_token(token);
    EXPECT_EQ(code_of(machine_.append(key.next(1, 1))), Errc::sealed);
  }
  void append_works(KeyModel& key) {
    machine_.append_well(key, 3, 77);
    machine_.append_well(key, 33, 78);
    expect_whole(key);
  }
  void truncate(KeyId key, KeyFileKind kind, std::uint64_t size) {
    const auto file = machine_.files.open(key_path(key, kind), OpenOptions());
    ASSERT_TRUE(file);
    ASSERT_TRUE((*file)->truncate(size));
    ASSERT_TRUE((*file)->sync());
  }
  [[nodiscard]] static std::string name_of(const KeyModel& key) { return key.key().hex(); }

  Machine machine_;
  KeyModel one_{key_number(1)};
  KeyModel two_{key_number(2)};
};

// ---- no descriptor left ----

constexpr Error kEmfile(Errc::io_error, EMFILE);

TEST_F(StoreFaults, OutOfDescriptorsUnusedFilesAreClosedAndTheCallGoesOn) {
  KeyModel three(key_number(3));
  machine_.files.fail(fault(FileOperation::open, name_of(three) + ".sums", kEmfile));
  ASSERT_TRUE(machine_.create(three));
  machine_.files.fail(fault(FileOperation::sync_folder, key_folder(three.key()), kEmfile));
  machine_.append_well(three, 40, 1);  // past the ring: its name is synced with it
  expect_whole(three);
  machine_.stop();
  machine_.start_well();
  machine_.files.fail(fault(FileOperation::open, name_of(one_) + ".data", kEmfile));
  expect_whole(one_);
  append_works(one_);
}

TEST_F(StoreFaults, OutOfDescriptorsForLongIsBusyAndFailsNothing) {
  KeyModel three(key_number(3));
  ASSERT_TRUE(machine_.create(three));
  KeyModel grown = three;
  machine_.files.fail(fault(FileOperation::sync_folder, key_folder(three.key()), kEmfile, true));
  EXPECT_EQ(code_of(machine_.append(grown.next(40, 1))), Errc::busy);
  machine_.files.clear_faults();
  append_works(three);
}

TEST_F(StoreFaults, OutOfDescriptorsADestageIsDoneLater) {
  KeyModel three(key_number(3));
  ASSERT_TRUE(machine_.create(three));
  machine_.files.fail(fault(FileOperation::sync_folder, "keys/", kEmfile, true));
  // More than the ring holds: the append that finds it full waits.
  for (std::uint64_t i = 0; i < 100; ++i) {
    sim::Running append(machine_.process(), machine_.store().append(three.next(8, i)));
    if (append.wait(10s)) {
      ASSERT_TRUE(append.outcome()) << to_string(append.outcome().error());
      continue;
    }
    EXPECT_TRUE(machine_.store().takes_changes());
    machine_.files.clear_faults();
    ASSERT_TRUE(append.wait(1h));
    ASSERT_TRUE(append.outcome());
  }
  EXPECT_TRUE(machine_.store().takes_changes());
  machine_.power_cut();
  machine_.start_well();
  for (KeyModel* const key : {&one_, &two_, &three}) expect_whole(*key);
}

// ---- space that is not given back ----

/// The sums say that the blocks are gone; giving their space back is advice.
TEST_F(StoreFaults, FreesGoOnWithoutPunching) {
  constexpr Error kUnsupported(Errc::unsupported, 95);
  for (const Error& error : {kUnsupported, kEnospc}) {
    machine_.files.fail(fault(FileOperation::punch, ".data", error, true));
    const std::uint64_t block = error == kEnospc ? 3 : 1;
    std::vector<BlockRun> runs{{BlockIndex{block}, 1}};
    const auto freed =
        machine_.run(machine_.store().free_private(one_.key(), one_.token(), kDisk, runs));
    EXPECT_TRUE(freed) << to_string(freed.error());
    EXPECT_FALSE(machine_.store().info(one_.key())->damaged);
    EXPECT_EQ(machine_.read_error(one_.key(), block), Errc::punched);
    machine_.append_well(one_, 2, 40);
    // A replay frees again.
    machine_.power_cut();
    machine_.start_well();
    EXPECT_FALSE(machine_.store().info(one_.key())->damaged);
    EXPECT_EQ(machine_.store().info(one_.key())->length, one_.length());
    EXPECT_EQ(machine_.read_error(one_.key(), block), Errc::punched);
    EXPECT_EQ(machine_.read_error(one_.key(), block - 1), Errc::ok);
    machine_.files.clear_faults();
  }
  machine_.append_well(one_, 2, 41);
}

TEST_F(StoreFaults, ADeviceThatFailsToPunchFailsTheKey) {
  machine_.files.fail(fault(FileOperation::punch, ".data", kEio));
  std::vector<BlockRun> runs{{BlockIndex{1}, 1}};
  EXPECT_FALSE(machine_.run(machine_.store().free_private(one_.key(), one_.token(), kDisk, runs)));
  expect_unknown(one_);
}

// ---- full ----

TEST_F(StoreFaults, NoSpaceForAnAppendIsAnsweredAndNothingIsLost) {
  for (const char* suffix : {".data", ".log", ".sums"}) {
    for (const std::size_t blocks : {4U, 40U}) {
      KeyModel grown = two_;
      machine_.files.fail(fault(FileOperation::allocate, suffix, kEnospc, true));
      std::size_t refused = 0;
      for (std::uint64_t i = 0; i < 300 && refused == 0; ++i) {
        const auto appended = machine_.append(grown.next(blocks, i));
        if (appended) continue;
        EXPECT_EQ(appended.error(), Errc::no_space);
        grown.cut(grown.records().back().start);
        ++refused;
      }
      EXPECT_EQ(refused, suffix == std::string(".data") ? 1U : refused) << suffix;
      machine_.files.clear_faults();
      two_ = grown;
      append_works(two_);
    }
  }
  machine_.power_cut();
  machine_.start_well();
  expect_whole(two_);
}

TEST_F(StoreFaults, NoSpaceInAWriteOfALargeAppendIsAnswered) {
  KeyModel grown = two_;
  machine_.files.fail(fault(FileOperation::write, name_of(two_) + ".data", kEnospc));
  EXPECT_EQ(code_of(machine_.append(grown.next(40, 1))), Errc::no_space);
  append_works(two_);
}

TEST_F(StoreFaults, AFailedAppendTakesThoseBehindItAlong) {
  KeyModel grown = two_;
  auto& store = machine_.store();
  machine_.files.fail(fault(FileOperation::write, name_of(two_) + ".data", kEnospc));
  sim::Running first(machine_.process(), store.append(grown.next(40, 1)));
  sim::Running second(machine_.process(), store.append(grown.next(40, 2)));
  sim::Running third(machine_.process(), store.append(grown.next(1, 3)));
  ASSERT_TRUE(first.wait(1h) && second.wait(1h) && third.wait(1h));
  EXPECT_EQ(code_of(first.outcome()), Errc::no_space);
  EXPECT_EQ(code_of(second.outcome()), Errc::wrong_offset);
  EXPECT_EQ(code_of(third.outcome()), Errc::wrong_offset);
  append_works(two_);
  machine_.power_cut();
  machine_.start_well();
  expect_whole(two_);
}

TEST_F(StoreFaults, NoSpaceInCreateLeavesNothingBehind) {
  std::uint64_t number = 3;
  for (const char* suffix : {".log", ".data", ".sums"}) {
    KeyModel three(key_number(number++));
    machine_.files.fail(fault(FileOperation::open, name_of(three) + suffix, kEnospc));
    EXPECT_EQ(code_of(machine_.create(three)), Errc::no_space);
    EXPECT_EQ(code_of(machine_.store().info(three.key())), Errc::not_found);
    machine_.power_cut();
    machine_.start_well();
    EXPECT_EQ(code_of(machine_.store().info(three.key())), Errc::not_found);
    // A replay of the ring would take a second life of the number as well.
    EXPECT_EQ(code_of(machine_.create(three)), Errc::exists);
  }
  KeyModel next(key_number(number));
  ASSERT_TRUE(machine_.create(next));
  append_works(next);
}

TEST_F(StoreFaults, NoSpaceInReplayRefusesToOpenAndLosesNothing) {
  machine_.power_cut();
  machine_.files.fail(fault(FileOperation::write, name_of(one_), kEnospc));
  EXPECT_EQ(code_of(machine_.start()), Errc::no_space);
  machine_.files.clear_faults();
  machine_.power_cut();
  machine_.start_well();
  expect_whole(one_);
  expect_whole(two_);
}

TEST_F(StoreFaults, AReservationIsSpaceThatNobodyElseCanTake) {
  auto& store = machine_.store();
  const BlockIndex data_blocks{one_.length().blocks.value + 1000};
  const std::uint64_t log_bytes = one_.length().log_bytes + 256 * limits::kKiB;
  const auto reserved =
      machine_.run(store.reserve(one_.key(), one_.token(), data_blocks, log_bytes));
  ASSERT_TRUE(reserved);
  EXPECT_GE(reserved->blocks, data_blocks);
  EXPECT_GE(reserved->log_bytes, log_bytes);
  machine_.power_cut();
  machine_.start_well();
  machine_.files.set_capacity(machine_.files.used_bytes());
  for (std::uint64_t i = 0; i < 25; ++i) machine_.append_well(one_, 40, i);
  expect_whole(one_);
  Errc without_credit = Errc::ok;
  for (std::uint64_t i = 0; i < 25 && without_credit == Errc::ok; ++i) {
    without_credit = code_of(machine_.append(two_.next(40, i)));
  }
  EXPECT_EQ(without_credit, Errc::no_space);
  machine_.files.set_capacity(sim::MemoryFiles::kUnlimited);
}

TEST_F(StoreFaults, AReservationIsATotalAndDoesNotGrowWhenItIsAskedForAgain) {
  auto& store = machine_.store();
  const BlockIndex data_blocks{one_.length().blocks.value + 1000};
  const std::uint64_t log_bytes = one_.length().log_bytes + 64 * limits::kKiB;
  ASSERT_TRUE(machine_.run(store.reserve(one_.key(), one_.token(), data_blocks, log_bytes)));
  const std::uint64_t used = machine_.files.used_bytes();
  for (std::uint64_t i = 0; i < 10; ++i) {
    machine_.append_well(one_, 40, i);
    const auto again =
        machine_.run(store.reserve(one_.key(), one_.token(), data_blocks, log_bytes));
    ASSERT_TRUE(again);
    EXPECT_EQ(again->blocks, data_blocks);
  }
  EXPECT_LE(machine_.files.used_bytes(), used + limits::kMiB);
}

TEST_F(StoreFaults, ReservationsLeaveTheReserveAlone) {
  machine_.stop();
  machine_.options.reserve_bytes = 100 * limits::kMiB;
  machine_.start_well();
  machine_.files.set_capacity(machine_.files.used_bytes() + 100 * limits::kMiB);
  auto& store = machine_.store();
  EXPECT_EQ(code_of(machine_.run(
                store.reserve(one_.key(), one_.token(), BlockIndex{1000}, limits::kKiB))),
            Errc::no_space);
  append_works(one_);  // what was acknowledged may use it
}

// Hundreds of disks that are written for the first time ask in the same moment: what each finds
// free the others find free as well.
TEST_F(StoreFaults, ReservationsMadeAtOnceLeaveTheReserveAlone) {
  constexpr std::uint64_t kReserve = 8 * limits::kMiB;
  constexpr std::uint64_t kBlocks = 1000;
  machine_.stop();
  machine_.options.reserve_bytes = kReserve;
  machine_.start_well();
  machine_.files.set_capacity(machine_.files.used_bytes() + kReserve +
                              3 * kBlocks / 2 * kBlockBytes);
  const auto ask =
      [](BlockStore& store, const KeyModel& key, std::vector<Errc>& into) -> Task<void> {
    const BlockIndex data_blocks{key.length().blocks.value + kBlocks};
    const std::uint64_t log_bytes = key.length().log_bytes + limits::kKiB;
    const auto reserved = co_await store.reserve(key.key(), key.token(), data_blocks, log_bytes);
    into.push_back(code_of(reserved));
  };
  std::vector<Errc> outcomes;
  machine_.process().spawn(ask(machine_.store(), one_, outcomes));
  machine_.run(ask(machine_.store(), two_, outcomes));
  machine_.world.run_for(std::chrono::seconds(10));
  ASSERT_EQ(outcomes.size(), 2U);
  EXPECT_NE(std::count(outcomes.begin(), outcomes.end(), Errc::no_space), 0);
  EXPECT_GE(machine_.files.space()->free_bytes, kReserve);
}

// A head that finds no space is written later: no sync was tried, so nothing is in doubt.
TEST_F(StoreFaults, FullFileSystemFailsNoKeyWhenTheStoreStops) {
  machine_.append_well(one_, 3, 7);
  machine_.append_well(two_, 3, 8);
  machine_.files.fail(fault(FileOperation::write, ".log", Errc::no_space, true));
  machine_.stop();
  machine_.files.clear_faults();
  machine_.start_well();
  expect_whole(one_);
  expect_whole(two_);
  append_works(one_);
  append_works(two_);
}

// ---- failing ----

TEST_F(StoreFaults, AFailedRingWriteStopsAllChangesAndNoReads) {
  KeyModel grown = one_;
  machine_.files.fail(fault(FileOperation::write, std::string(Journal::kPath), kEio));
  EXPECT_EQ(code_of(machine_.append(grown.next(1, 1))), Errc::io_error);
  EXPECT_EQ(code_of(machine_.append(grown.next(1, 1))), Errc::io_error);
  EXPECT_EQ(code_of(machine_.fence(two_, Epoch(9))), Errc::io_error);
  KeyModel three(key_number(3));
  EXPECT_EQ(code_of(machine_.create(three)), Errc::io_error);
  EXPECT_EQ(code_of(machine_.store().info(three.key())), Errc::not_found);
  EXPECT_EQ(machine_.compare(one_, 3), "");
  machine_.power_cut();
  machine_.start_well();
  EXPECT_EQ(machine_.compare(one_, 3), "");
  expect_whole(two_);
}

// The failed sync took an append with it, and every later one; what was answered before stays, and
// a fence answers its length.
TEST_F(StoreFaults, AFailedSyncOfDataFailsTheKeyForGood) {
  for (const bool small_ones_too : {false, true}) {
    KeyModel& key = small_ones_too ? one_ : two_;
    SCOPED_TRACE(small_ones_too);
    KeyModel grown = key;
    machine_.files.fail(fault(FileOperation::sync, name_of(key) + ".data", kEio));
    EXPECT_EQ(code_of(machine_.append(grown.next(40, 1))), Errc::io_error);
    EXPECT_FALSE(machine_.append(grown.next(1, 2)));
    expect_sealed_whole(key, Epoch(9));
  }
  machine_.power_cut();
  machine_.start_well();
  expect_sealed_whole(one_, Epoch(9));
  expect_sealed_whole(two_, Epoch(10));
  machine_.stop();
  machine_.start_well();
  expect_sealed_whole(one_, Epoch(11));
  expect_sealed_whole(two_, Epoch(11));
}

// The same when nobody waits for it: the blocks are in the ring only, and the page cache has
// dropped some of them.
TEST_F(StoreFaults, AFailedSyncInADestageLosesNothingThatWasAnswered) {
  machine_.files.fail(fault(FileOperation::sync, name_of(one_) + ".data", kEio));
  machine_.stop();
  machine_.power_cut();
  machine_.start_well();
  expect_sealed_whole(one_, Epoch(9));
  expect_whole(two_);
  append_works(two_);
}

TEST_F(StoreFaults, AFenceBehindAnAppendWhoseSyncFailsAnswersWhatWasAnsweredBefore) {
  auto& store = machine_.store();
  KeyModel grown = two_;
  machine_.files.fail(fault(FileOperation::sync, name_of(two_) + ".data", kEio));
  sim::Running append(machine_.process(), store.append(grown.next(40, 1)));
  sim::Running fenced(machine_.process(), store.fence(two_.key(), Epoch(7)));
  sim::Running sealed(machine_.process(), store.seal(two_.key(), Epoch(7), two_.length()));
  ASSERT_TRUE(append.wait(1h) && fenced.wait(1h) && sealed.wait(1h));
  EXPECT_FALSE(append.outcome());
  ASSERT_TRUE(fenced.outcome());
  EXPECT_EQ(fenced.outcome()->state.length, two_.length());
  EXPECT_TRUE(sealed.outcome());
}

// A second failure, now of what should make it sure: nobody can tell any more.
TEST_F(StoreFaults, AFailedSyncWhileTheKeyIsWrittenAnewMakesItUnknown) {
  for (const char* suffix : {".copy", ".log", ".sums"}) {
    SCOPED_TRACE(suffix);
    Machine machine;
    machine.start_well();
    KeyModel key(key_number(1));
    ASSERT_TRUE(machine.create(key));
    machine.append_well(key, 2, 1);
    machine.files.fail(fault(FileOperation::sync, name_of(key) + ".data", kEio));
    machine.files.fail(fault(FileOperation::sync, name_of(key) + suffix, kEio));
    KeyModel grown = key;
    EXPECT_EQ(code_of(machine.append(grown.next(40, 2))), Errc::io_error);
    for (int start = 0; start < 2; ++start) {
      EXPECT_EQ(code_of(machine.fence(key, Epoch(9))), Errc::unknown);
      EXPECT_TRUE(machine.store().info(key.key())->damaged);
      machine.stop();
      machine.start_well();
    }
    machine.stop();
  }
}

TEST_F(StoreFaults, AFailedSyncIsNeverTriedAgain) {
  machine_.files.fail(fault(FileOperation::sync, name_of(two_) + ".log", kEio));
  machine_.files.fail(fault(FileOperation::sync, name_of(two_) + ".copy", kEio));
  machine_.stop();
  machine_.start_well();
  expect_unknown(two_);
  expect_whole(one_);
  machine_.power_cut();
  machine_.start_well();
  expect_unknown(two_);
}

TEST_F(StoreFaults, AFailedWriteOfAKeyFileFailsTheKey) {
  for (const char* suffix : {".log", ".sums", ".data"}) {
    Machine machine;
    machine.start_well();
    KeyModel key(key_number(1));
    KeyModel other(key_number(2));
    ASSERT_TRUE(machine.create(key));
    ASSERT_TRUE(machine.create(other));
    machine.append_well(key, 1, 1);
    machine.files.fail(fault(FileOperation::write, name_of(key) + suffix, kEio));
    KeyModel grown = key;
    EXPECT_EQ(code_of(machine.append(grown.next(1, 2))), Errc::io_error);
    EXPECT_EQ(code_of(machine.append(grown.next(1, 3))), Errc::unknown);
    machine.append_well(other, 1, 1);
    machine.stop();
    machine.start_well();
    EXPECT_TRUE(machine.store().info(key.key())->damaged);
    EXPECT_EQ(machine.compare(other, 1), "");
    machine.stop();
  }
}

TEST_F(StoreFaults, AFailedHeadOfTheRingLosesNothing) {
  machine_.files.fail(fault(FileOperation::write, std::string(Journal::kPath), kEio));
  machine_.stop();
  machine_.start_well();
  expect_whole(one_);
  expect_whole(two_);
}

TEST_F(StoreFaults, AFailedKeyThatCannotBeMarkedKeepsItsPlaceInTheRing) {
  machine_.files.fail(fault(FileOperation::sync, name_of(two_) + ".log", kEio));
  machine_.files.fail(fault(FileOperation::open, ".bad", kEio, true));
  machine_.stop();
  machine_.files.clear_faults();
  machine_.start_well();
  expect_whole(one_);
  expect_whole(two_);  // the ring still had it
}

TEST_F(StoreFaults, AFailedSyncOfAFolderLosesNothing) {
  machine_.files.fail(fault(FileOperation::sync_folder, key_folder(two_.key()), kEio));
  machine_.stop();
  machine_.power_cut();
  machine_.start_well();
  expect_whole(one_);
  expect_whole(two_);
}

TEST_F(StoreFaults, F5_read_error_is_not_absence) {
  machine_.stop();
  machine_.files.fail(fault(FileOperation::list, key_folder(one_.key()), kEio));
  EXPECT_EQ(code_of(machine_.start()), Errc::io_error);
  machine_.files.restart();

  machine_.files.fail(fault(FileOperation::read, name_of(one_) + ".log", kEio));
  machine_.start_well();
  expect_unknown(one_);
  expect_whole(two_);
  machine_.stop();

  machine_.start_well();  // nothing was changed because of it
  expect_whole(one_);
  machine_.files.fail(fault(FileOperation::read, name_of(one_) + ".data", kEio, true));
  EXPECT_EQ(machine_.read_error(one_.key(), 0), Errc::io_error);
  machine_.files.fail(fault(FileOperation::read, name_of(one_) + ".sums", kEio, true));
  EXPECT_EQ(machine_.read_error(one_.key(), 0), Errc::io_error);
  machine_.files.clear_faults();
  machine_.files.fail(fault(FileOperation::read, name_of(one_) + ".log", kEio));
  EXPECT_EQ(code_of(machine_.run(machine_.store().read_log(one_.key(), 0, 4096))), Errc::io_error);
  expect_whole(one_);
}

// ---- changed behind its back ----

TEST_F(StoreFaults, F13_zero_length_and_truncated_files) {
  machine_.stop();
  const std::uint64_t whole_log = limits::kLogHeadBytes + one_.length().log_bytes;
  const std::vector<std::pair<KeyFileKind, std::uint64_t>> damages{
      {KeyFileKind::log, 0},
      {KeyFileKind::log, 512},
      {KeyFileKind::log, whole_log - 1},
      {KeyFileKind::data, 0},
      {KeyFileKind::data, one_.length().blocks.value * kBlockBytes - 1},
      {KeyFileKind::sums, 0},
      {KeyFileKind::sums, one_.length().blocks.value * kSumBytes - 1}};
  for (const auto& [kind, size] : damages) {
    Machine machine;
    machine.start_well();
    KeyModel key(key_number(1));
    ASSERT_TRUE(machine.create(key));
    for (std::uint64_t i = 0; i < 3; ++i) machine.append_well(key, 2, i);
    machine.stop();
    {
      const auto file = machine.files.open(key_path(key.key(), kind), OpenOptions());
      ASSERT_TRUE((*file)->truncate(size));
      ASSERT_TRUE((*file)->sync());
    }
    machine.start_well();
    KeyModel grown = key;
    EXPECT_EQ(code_of(machine.fence(key, Epoch(9))), Errc::unknown) << size;
    EXPECT_EQ(code_of(machine.append(grown.next(1, 9))), Errc::unknown) << size;
    EXPECT_TRUE(machine.store().info(key.key())->damaged);
    machine.stop();
  }
  machine_.start_well();
}

TEST_F(StoreFaults, AMissingFileIsDamage) {
  for (const KeyFileKind kind : {KeyFileKind::log, KeyFileKind::data, KeyFileKind::sums}) {
    Machine machine;
    machine.start_well();
    KeyModel key(key_number(1));
    ASSERT_TRUE(machine.create(key));
    machine.append_well(key, 2, 1);
    machine.stop();
    ASSERT_TRUE(machine.files.remove(key_path(key.key(), kind)));
    machine.start_well();
    EXPECT_TRUE(machine.store().info(key.key()));
    EXPECT_EQ(code_of(machine.fence(key, Epoch(9))), Errc::unknown);
    EXPECT_EQ(machine.read_error(key.key(), 0),
              kind == KeyFileKind::log ? machine.read_error(key.key(), 0) : Errc::unknown);
    EXPECT_NE(machine.read_error(key.key(), 0), Errc::not_found);
    machine.stop();
  }
}

TEST_F(StoreFaults, AMissingJournalIsNotANewStore) {
  machine_.stop();
  ASSERT_TRUE(machine_.files.remove(Journal::kPath));
  EXPECT_EQ(code_of(machine_.start()), Errc::corrupt);
}

TEST_F(StoreFaults, I8_a_damaged_block_is_an_error) {
  machine_.stop();
  ASSERT_TRUE(machine_.files.flip_bit(key_path(one_.key(), KeyFileKind::data), 5000, 1));
  ASSERT_TRUE(machine_.files.flip_bit(key_path(one_.key(), KeyFileKind::sums), 3 * kSumBytes, 1));
  machine_.start_well();
  const std::vector<Errc> wanted{Errc::ok, Errc::corrupt, Errc::ok, Errc::corrupt, Errc::ok};
  for (std::uint64_t block = 0; block < wanted.size(); ++block) {
    EXPECT_EQ(machine_.read_error(one_.key(), block), wanted[block]) << block;
  }
  EXPECT_EQ(machine_.store().counters().checksum_failures, 2U);
  // One damaged block is no reason to refuse appends.
  machine_.append_well(one_, 1, 5);
}

TEST_F(StoreFaults, ALostHeadIsDamageNotAnOlderFence) {
  ASSERT_TRUE(machine_.fence(one_, Epoch(50)));
  machine_.stop();
  machine_.start_well();
  ASSERT_TRUE(machine_.fence(one_, Epoch(60)));
  machine_.stop();
  std::uint64_t newest = 0;
  for (const std::uint64_t slot : {std::uint64_t{0}, kHeadSlotStride}) {
    std::vector<std::byte> bytes(kHeadSlotBytes);
    const auto file = machine_.files.open(key_path(one_.key(), KeyFileKind::log), OpenOptions());
    ASSERT_TRUE((*file)->read(slot, bytes));
    if (decode_log_head(bytes, one_.key())->token == Epoch(60)) newest = slot;
  }
  ASSERT_TRUE(machine_.files.flip_bit(key_path(one_.key(), KeyFileKind::log), newest + 97, 1));
  machine_.start_well();
  expect_unknown(one_);
  expect_whole(two_);
}

TEST_F(StoreFaults, SyncedBlocksThatDoNotMatchAfterACrashAreDamage) {
  machine_.kill();
  ASSERT_TRUE(machine_.files.flip_bit(key_path(two_.key(), KeyFileKind::data), 5000, 1));
  machine_.start_well();
  expect_unknown(two_);
  EXPECT_EQ(machine_.read_error(two_.key(), 0), Errc::ok);
  EXPECT_EQ(machine_.read_error(two_.key(), 1), Errc::corrupt);
  expect_whole(one_);
}

/// Where the newest group with `key` in it begins.
std::uint64_t group_of(sim::MemoryFiles& files, KeyId key, std::size_t nth) {
  const auto file = files.open(Journal::kPath, OpenOptions());
  std::vector<std::byte> bytes(*(*file)->size());
  VMS_ASSERT((*file)->read(0, bytes).has_value());
  for (std::uint64_t at = kRingStart; at < bytes.size(); at += kJournalUnitBytes) {
    const auto group = decode_group(ByteSpan(bytes).subspan(at));
    if (!group || group->entries[0].fields.key != key || nth-- > 0) continue;
    return at;
  }
  return 0;
}

TEST_F(StoreFaults, R11_bad_group_in_the_middle) {
  machine_.kill();
  const std::uint64_t place = group_of(machine_.files, one_.key(), 2);
  ASSERT_GT(place, 0U);
  ASSERT_TRUE(machine_.files.flip_bit(Journal::kPath, place + 20, 1));
  machine_.start_well();
  expect_unknown(one_);
  expect_whole(two_);
  append_works(two_);
  machine_.stop();
  machine_.start_well();  // the ring has forgotten it, the key has not
  expect_unknown(one_);
  expect_whole(two_);
}

TEST_F(StoreFaults, R11_a_lost_create_is_unknown_not_absent) {
  machine_.power_cut();
  const std::uint64_t place = group_of(machine_.files, two_.key(), 0);
  ASSERT_TRUE(machine_.files.flip_bit(Journal::kPath, place + 20, 1));
  for (int start = 0; start < 2; ++start) {
    machine_.start_well();
    EXPECT_EQ(code_of(machine_.fence(two_, Epoch(9))), Errc::unknown);
    expect_whole(one_);
    machine_.stop();
  }
}

// ---- order ----

TEST(StoreOrder, C12_small_after_torn_large) {
  for (const char* point : {"data.before_write",
                            "data.after_write",
                            "data.before_sync",
                            "data.after_sync",
                            "journal.before_write",
                            "journal.after_write",
                            "files.before_write",
                            "files.after_write"}) {
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      Machine machine(seed);
      machine.start_well();
      KeyModel key(key_number(1));
      ASSERT_TRUE(machine.create(key));
      machine.append_well(key, 2, 1);
      sim::CrashPoints points(machine.world);
      points.arm(machine.process(), point, 1);
      sim::Running large(machine.process(), machine.store().append(key.next(100, 2)));
      sim::Running small(machine.process(), machine.store().append(key.next(1, 3)));
      ASSERT_FALSE(large.wait(1h) && small.wait(1h));
      EXPECT_EQ(points.fired_at(), point);
      machine.power_cut();
      machine.start_well();
      const auto info = machine.store().info(key.key());
      ASSERT_TRUE(info);
      EXPECT_FALSE(info->damaged);
      key.cut(info->length);
      EXPECT_EQ(key.length(), info->length) << point;
      EXPECT_EQ(machine.compare(key, key.records().size()), "") << point;
      machine.stop();
    }
  }
}

/// Dies in a destage after the head of a new key was synced and before its name was: the files are
/// gone and the ring makes them again. Appends that followed the head's sync must not call that
/// damage.
TEST(StoreOrder, AHeadWhoseNameWasNotSyncedIsNotMissed) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Machine machine(seed);
    machine.start_well();
    KeyModel key(key_number(1));
    ASSERT_TRUE(machine.create(key));
    sim::CrashPoints points(machine.world);
    points.arm(machine.process(), "destage.before_names", 1);
    std::vector<std::unique_ptr<sim::Running<Result<KeyLength>>>> running;
    for (std::uint64_t i = 0; i < 60; ++i) {
      running.push_back(std::make_unique<sim::Running<Result<KeyLength>>>(
          machine.process(), machine.store().append(key.next(16, i))));
    }
    for (const auto& one : running) static_cast<void>(one->wait(1h));
    EXPECT_EQ(points.fired_at(), "destage.before_names");
    machine.power_cut();
    machine.start_well();
    EXPECT_FALSE(machine.store().info(key.key())->damaged) << seed;
    machine.stop();
  }
}

TEST(StoreOrder, C15_fence_in_group_commit) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    Machine machine(seed);
    machine.start_well();
    KeyModel key(key_number(1));
    ASSERT_TRUE(machine.create(key));
    auto& store = machine.store();
    sim::Running first(machine.process(), store.append(key.next(40, 1)));
    sim::Running second(machine.process(), store.append(key.next(2, 2)));
    const KeyLength before = key.length();
    sim::Running fenced(machine.process(), store.fence(key.key(), Epoch(7)));
    KeyModel late = key;
    sim::Running refused(machine.process(), store.append(late.next(2, 3)));
    ASSERT_TRUE(first.wait(1h) && second.wait(1h) && fenced.wait(1h) && refused.wait(1h));
    EXPECT_TRUE(first.outcome());
    EXPECT_TRUE(second.outcome());
    EXPECT_EQ(code_of(refused.outcome()), Errc::stale_token);
    ASSERT_TRUE(fenced.outcome());
    EXPECT_EQ(fenced.outcome()->state.length, before);
    machine.power_cut();
    machine.start_well();
    EXPECT_EQ(machine.store().info(key.key())->length, before);
    EXPECT_EQ(code_of(machine.append(late.next(2, 3))), Errc::stale_token);
    machine.stop();
  }
}

TEST(StoreOrder, AppendsOfManyKeysShareGroups) {
  Machine machine;
  machine.start_well();
  std::vector<KeyModel> keys;
  for (std::uint64_t i = 0; i < 16; ++i) {
    keys.emplace_back(key_number(i));
    ASSERT_TRUE(machine.create(keys.back()));
  }
  const std::uint64_t before = machine.store().counters().journal_groups;
  std::vector<std::unique_ptr<sim::Running<Result<KeyLength>>>> running;
  for (int round = 0; round < 4; ++round) {
    for (KeyModel& key : keys) {
      running.push_back(std::make_unique<sim::Running<Result<KeyLength>>>(
          machine.process(), machine.store().append(key.next(1, 1))));
    }
  }
  for (const auto& one : running) {
    ASSERT_TRUE(one->wait(1h));
    EXPECT_TRUE(one->outcome());
  }
  EXPECT_LE(machine.store().counters().journal_groups - before, 20U);
  machine.stop();
}

TEST(StoreOrder, AFullRingDelaysAppendsAndFailsNone) {
  Machine machine;
  machine.start_well();
  std::vector<KeyModel> keys;
  for (std::uint64_t i = 0; i < 8; ++i) {
    keys.emplace_back(key_number(i));
    ASSERT_TRUE(machine.create(keys.back()));
  }
  std::vector<std::unique_ptr<sim::Running<Result<KeyLength>>>> running;
  for (int round = 0; round < 40; ++round) {  // 20 MiB at once through a ring of 1 MiB
    for (KeyModel& key : keys) {
      running.push_back(std::make_unique<sim::Running<Result<KeyLength>>>(
          machine.process(), machine.store().append(key.next(16, 1))));
    }
  }
  for (const auto& one : running) {
    ASSERT_TRUE(one->wait(1h));
    EXPECT_TRUE(one->outcome());
  }
  for (const KeyModel& key : keys) EXPECT_EQ(machine.compare(key, 40), "");
  machine.stop();
}

}  // namespace
}  // namespace vmstore::storaged
