// SPDX-License-Identifier: Apache-2.0
// The repair of a key's only copy: what is kept, what is cut and kept aside, and a death at each
// step.
#include "storaged/repair.h"

#include <gtest/gtest.h>

#include "storaged/key_files.h"
#include "tests/unit/storaged/store_fixture.h"

namespace vmstore::storaged {
namespace {

constexpr Error kEio(Errc::io_error, 5);

Errc code_of(const auto& result) {
  return result ? Errc::ok : result.error().code;
}

/// A key with six records, small and large in turn, on a running machine.
class Repair : public ::testing::Test {
 protected:
  void SetUp() override { begin(machine_, key_); }
  void TearDown() override {
    machine_.files.clear_faults();
    if (machine_.runs()) machine_.stop();
  }
  static void begin(Machine& machine, KeyModel& key) {
    machine.start_well();
    ASSERT_TRUE(machine.create(key));
    for (std::uint64_t i = 0; i < 6; ++i) machine.append_well(key, i % 2 == 0 ? 3 : 30, i);
  }
  static Result<RepairAnswer> repair(Machine& machine,
                                     const KeyModel& key,
                                     bool accept_loss,
                                     Epoch token = Epoch(5)) {
    RepairRequest request;
    request.key = key.key();
    request.disk = kDisk;
    request.token = token;
    request.accept_loss = accept_loss;
    return machine.run(machine.store().repair(request));
  }
  /// Flips a bit of record `number` in the log of a stopped machine.
  static void damage_record(Machine& machine, const KeyModel& key, std::size_t number) {
    const std::uint64_t place = limits::kLogHeadBytes + key.records()[number].start.log_bytes;
    ASSERT_TRUE(machine.files.flip_bit(key_path(key.key(), KeyFileKind::log), place + 40, 1));
  }
  /// It ends behind `records` records, has all of them, and takes no append any more.
  static void expect_cut(Machine& machine, const KeyModel& key, std::size_t records, Epoch token) {
    const auto fenced = machine.fence(key, token);
    ASSERT_TRUE(fenced) << to_string(fenced.error());
    const KeyLength& end = key.records()[records - 1].end;
    EXPECT_EQ(fenced->state.length.last_sequence, end.last_sequence);
    EXPECT_EQ(fenced->state.length.log_bytes, end.log_bytes);
    EXPECT_EQ(machine.compare(key, records), "");
    KeyModel late = key;
    late.cut(end);
    late.set_token(token);
    EXPECT_FALSE(machine.append(late.next(1, 1)));
  }
  static std::vector<std::byte> content(Machine& machine, const std::string& path) {
    const auto bytes = read_file(machine.files, path, 64 * limits::kMiB);
    EXPECT_TRUE(bytes) << path;
    return bytes ? *bytes : std::vector<std::byte>();
  }

  Machine machine_;
  KeyModel key_{key_number(1)};
};

TEST_F(Repair, AWholeKeyIsLeftAsItIs) {
  for (const bool accept_loss : {false, true}) {
    const auto found = repair(machine_, key_, accept_loss);
    ASSERT_TRUE(found);
    EXPECT_FALSE(found->needed);
    EXPECT_EQ(found->kept.last_sequence, key_.length().last_sequence);
  }
  machine_.append_well(key_, 1, 7);
}

TEST_F(Repair, CutsTheLogAtTheDamageAndKeepsWhatWasCut) {
  machine_.stop();
  damage_record(machine_, key_, 3);
  const auto log = content(machine_, key_path(key_.key(), KeyFileKind::log));
  const auto data = content(machine_, key_path(key_.key(), KeyFileKind::data));
  machine_.start_well();
  const auto told = repair(machine_, key_, false);
  ASSERT_TRUE(told);
  EXPECT_TRUE(told->needed);
  EXPECT_EQ(machine_.store().info(key_.key())->length, key_.length());  // told only
  const auto cut = repair(machine_, key_, true);
  ASSERT_TRUE(cut) << to_string(cut.error());
  EXPECT_EQ(cut->known, key_.length());
  EXPECT_EQ(cut->kept.last_sequence, key_.records()[2].end.last_sequence);
  EXPECT_EQ(cut->kept.last_sequence, told->kept.last_sequence);

  const KeyLength& end = key_.records()[2].end;
  const auto cut_log = content(machine_, cut->cut_path + ".log");
  const ByteSpan behind = ByteSpan(log).subspan(limits::kLogHeadBytes + end.log_bytes);
  ASSERT_GE(behind.size(), cut_log.size());
  EXPECT_EQ(cut_log.size(), key_.length().log_bytes - end.log_bytes);
  EXPECT_TRUE(std::ranges::equal(cut_log, behind.first(cut_log.size())));
  const auto cut_data = content(machine_, cut->cut_path + ".data");
  EXPECT_EQ(cut_data.size(), (key_.length().blocks.value - end.blocks.value) * kBlockBytes);
  EXPECT_TRUE(std::ranges::equal(
      cut_data, ByteSpan(data).subspan(end.blocks.value * kBlockBytes, cut_data.size())));

  expect_cut(machine_, key_, 3, Epoch(6));
  machine_.power_cut();
  machine_.start_well();
  expect_cut(machine_, key_, 3, Epoch(7));
  // Pages and snapshots may lie behind the cut: the blocks are still there.
  EXPECT_EQ(machine_.read_error(key_.key(), key_.length().blocks.value - 1), Errc::ok);
  EXPECT_FALSE(repair(machine_, key_, true, Epoch(8))->needed);
}

TEST_F(Repair, DamageBeforeWhatIsNeededIsNone) {
  machine_.stop();
  damage_record(machine_, key_, 1);
  machine_.start_well();
  RepairRequest request;
  request.key = key_.key();
  request.disk = kDisk;
  request.token = Epoch(5);
  request.log_offset = key_.records()[3].start.log_bytes;
  request.sequence = key_.records()[2].end.last_sequence.next();
  EXPECT_FALSE(machine_.run(machine_.store().repair(request))->needed);
  request.log_offset = key_.records()[1].start.log_bytes;
  request.sequence = key_.records()[0].end.last_sequence.next();
  request.accept_loss = true;
  const auto cut = machine_.run(machine_.store().repair(request));
  ASSERT_TRUE(cut);
  EXPECT_TRUE(cut->needed);
  expect_cut(machine_, key_, 1, Epoch(6));
}

TEST_F(Repair, AKeyThatOnlyCarriesAMarkLosesNothing) {
  sim::FileFault fault;
  fault.operation = sim::FileOperation::sync;
  fault.path_part = key_.key().hex() + ".sums";
  fault.error = kEio;
  machine_.stop();
  machine_.start_well();  // all is synced; the fence makes it dirty again
  ASSERT_TRUE(machine_.fence(key_, Epoch(4)));
  machine_.files.fail(fault);
  fault.path_part = key_.key().hex() + ".copy";  // nor can it be written anew
  machine_.files.fail(fault);
  machine_.stop();
  machine_.start_well();
  EXPECT_EQ(code_of(machine_.fence(key_, Epoch(5))), Errc::unknown);
  const auto done = repair(machine_, key_, true);
  ASSERT_TRUE(done) << to_string(done.error());
  EXPECT_TRUE(done->needed);
  EXPECT_EQ(done->kept, key_.length());
  EXPECT_EQ(done->cut_path, "");
  for (std::uint64_t token = 6; token < 8; ++token) {
    expect_cut(machine_, key_, 6, Epoch(token));
    machine_.power_cut();
    machine_.start_well();
  }
}

TEST_F(Repair, AKeyWhoseBlocksAreLostEndsBeforeThem) {
  machine_.kill();
  const std::uint64_t block = key_.records()[3].start.blocks.value + 7;
  ASSERT_TRUE(
      machine_.files.flip_bit(key_path(key_.key(), KeyFileKind::data), block * kBlockBytes + 9, 1));
  machine_.start_well();
  EXPECT_EQ(code_of(machine_.fence(key_, Epoch(5))), Errc::unknown);
  const auto cut = repair(machine_, key_, true);
  ASSERT_TRUE(cut) << to_string(cut.error());
  expect_cut(machine_, key_, 3, Epoch(6));
}

TEST_F(Repair, LostHeadsAreMadeAnewFromTheRecords) {
  machine_.stop();
  for (const std::uint64_t slot : {std::uint64_t{0}, kHeadSlotStride}) {
    machine_.files.flip_bit(key_path(key_.key(), KeyFileKind::log), slot + 97, 1);
  }
  machine_.start_well();
  EXPECT_EQ(code_of(machine_.fence(key_, Epoch(5))), Errc::unknown);
  const auto done = repair(machine_, key_, true);
  ASSERT_TRUE(done) << to_string(done.error());
  for (std::uint64_t token = 6; token < 8; ++token) {
    expect_cut(machine_, key_, 6, Epoch(token));
    machine_.power_cut();
    machine_.start_well();
  }
}

TEST_F(Repair, WhatCannotBeRepairedIsRefusedAndLeftAsItIs) {
  EXPECT_EQ(code_of(repair(machine_, KeyModel(key_number(9)), true)), Errc::not_found);
  machine_.stop();
  damage_record(machine_, key_, 4);
  machine_.start_well();
  ASSERT_TRUE(machine_.fence(key_, Epoch(9)));
  EXPECT_EQ(code_of(repair(machine_, key_, true, Epoch(8))), Errc::stale_token);
  RepairRequest other;
  other.key = key_.key();
  other.disk = DiskId{1, 1};
  other.token = Epoch(10);
  other.accept_loss = true;
  EXPECT_EQ(code_of(machine_.run(machine_.store().repair(other))), Errc::permission);
  for (const char* path : {"cut/", ".copy-data", ".copy-log"}) {
    sim::FileFault full;
    full.operation = sim::FileOperation::write;
    full.path_part = path;
    full.error = Error(Errc::no_space, 28);
    machine_.files.fail(full);
    EXPECT_EQ(code_of(repair(machine_, key_, true, Epoch(10))), Errc::no_space) << path;
    EXPECT_EQ(machine_.store().info(key_.key())->length, key_.length());
  }
  ASSERT_TRUE(repair(machine_, key_, true, Epoch(10)));
  expect_cut(machine_, key_, 4, Epoch(11));
  machine_.stop();
  KeyModel two(key_number(2));
  machine_.start_well();
  ASSERT_TRUE(machine_.create(two));
  machine_.append_well(two, 2, 1);
  machine_.stop();
  ASSERT_TRUE(machine_.files.remove(key_path(two.key(), KeyFileKind::sums)));
  machine_.start_well();
  EXPECT_EQ(code_of(repair(machine_, two, true)), Errc::unknown);
}

TEST(RepairDeath, AtEachStepIsMendedByDoingItAgain) {
  for (const bool marked : {false, true}) {
    for (const char* point : {"repair.before_kept",
                              "repair.after_kept",
                              "repair.before_names",
                              "repair.before_mark",
                              "repair.after_mark"}) {
      for (std::uint64_t seed = 1; seed <= 6; ++seed) {
        SCOPED_TRACE(point + std::to_string(seed));
        Machine machine(seed);
        KeyModel key(key_number(1));
        machine.start_well();
        ASSERT_TRUE(machine.create(key));
        for (std::uint64_t i = 0; i < 6; ++i) machine.append_well(key, i % 2 == 0 ? 3 : 30, i);
        sim::FileFault fault;
        fault.operation = sim::FileOperation::sync;
        fault.path_part = key.key().hex() + ".log";
        fault.error = kEio;
        machine.stop();
        machine.start_well();  // all is synced: the failure takes the fence at most
        ASSERT_TRUE(machine.fence(key, Epoch(2)));
        if (marked) machine.files.fail(fault);
        fault.path_part = key.key().hex() + ".copy";  // nor can it be written anew
        if (marked) machine.files.fail(fault);
        machine.stop();
        const std::uint64_t place = limits::kLogHeadBytes + key.records()[3].start.log_bytes;
        ASSERT_TRUE(machine.files.flip_bit(key_path(key.key(), KeyFileKind::log), place + 40, 1));
        machine.start_well();
        sim::CrashPoints points(machine.world);
        points.arm(machine.process(), point, 1);
        RepairRequest request;
        request.key = key.key();
        request.disk = kDisk;
        request.token = Epoch(5);
        request.accept_loss = true;
        sim::Running running(machine.process(), machine.store().repair(request));
        EXPECT_FALSE(running.wait(std::chrono::hours(1)));
        EXPECT_EQ(points.fired_at(), point);
        machine.power_cut();
        machine.start_well();
        request.token = Epoch(6);
        const auto again = machine.run(machine.store().repair(request));
        ASSERT_TRUE(again) << to_string(again.error());
        const auto fenced = machine.fence(key, Epoch(7));
        ASSERT_TRUE(fenced);
        KeyModel kept = key;
        kept.cut(fenced->state.length);
        const std::size_t records = kept.records().size();
        EXPECT_EQ(records, 3U);
        EXPECT_EQ(machine.compare(key, records), "");
        machine.stop();
      }
    }
  }
}

}  // namespace
}  // namespace vmstore::storaged
