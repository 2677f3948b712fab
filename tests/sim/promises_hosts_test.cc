// SPDX-License-Identifier: Apache-2.0
// Promises about hosts that fail, come back, or come late; and about long chains of clones.
#include <utility>

#include "base/units.h"
#include "storaged/key_files.h"
#include "tests/sim/promises_fixture.h"

namespace vmstore::sim {
namespace {

constexpr Duration kGrace = limits::kLeaseTime + std::chrono::seconds(1);

// ---- fencing ----

// The old owner's append is on its way while another host takes the disk over. When it arrives it
// is refused, and its flush is never acknowledged (I3).
TEST_F(Promises, F1_late_append_after_fence) {
  create("d");
  DiskPtr old = open(a_, "d");
  write(a_, old, 0, 2, 1);
  flush(a_, old);
  write(a_, old, 1, 4, 2);
  const Pending late = begin(a_, old->flush());
  world_.run_for(std::chrono::microseconds(10));  // sent, not arrived
  hold(a_);
  world_.run_for(kGrace);
  DiskPtr now = open(b_, "d");
  EXPECT_EQ(read(b_, now, 0, 5), (Tags{1, 1, 0, 0, 0}));
  EXPECT_TRUE(now->is_owner());
  EXPECT_FALSE(late->ended());
  write(b_, now, 0, 1, 3);
  flush(b_, now);
  let_go(a_);
  ASSERT_TRUE(late->wait(kStuck));
  EXPECT_FALSE(late->outcome());
  EXPECT_EQ(read(b_, now, 0, 5), (Tags{3, 1, 0, 0, 0}));
  // Its guest gets errors from here on, never the older bytes.
  std::vector<std::byte> bytes(kBlockBytes);
  EXPECT_FALSE(answer_of(wait(a_, read_task(old, 0, bytes))));
  EXPECT_FALSE(answer_of(wait(a_, write_task(old, 0, 1, 4))));
  EXPECT_FALSE(answer_of(wait(a_, old->flush())));
  bury(a_);
  EXPECT_EQ(read(b_, now, 0, 5), (Tags{3, 1, 0, 0, 0}));
  close(b_, now);
}

// It may not free either: what it takes for garbage its successor may still need.
TEST_F(Promises, F16_fence_covers_frees) {
  create("d");
  DiskPtr old = open(a_, "d");
  write(a_, old, 0, 8, 1);
  flush(a_, old);
  const auto record = record_of(a_, "d").record;
  const auto key = *KeyId::make(record.open_key().key());
  const Epoch before = old->held_epoch();
  const DiskId id = old->id();
  must(b_, b_.admin().break_owner("d"));
  std::vector<net::NodeClient::FreeRun> runs;
  runs.push_back({BlockIndex{0}, 8});
  const auto freed = wait(a_, a_.session().node().free_blocks(key, before, id, runs, {}));
  EXPECT_EQ(answer_of(freed), Outcome(Errc::stale_token));
  bury_and_start(a_);
  DiskPtr now = open(a_, "d");
  EXPECT_EQ(read(a_, now, 0, 8), Tags(8, 1));
  close(a_, now);
}

// The key is being rolled when its owner dies: before the new one is named, or just after.
TEST_F(Promises, F2_takeover_in_the_middle_of_a_roll) {
  for (const std::string point : {"disk.key_created", "disk.key_named"}) {
    SCOPED_TRACE(point);
    const std::string name = "d-" + point;
    create(name, 1024);
    DiskPtr disk = open(a_, name);
    write(a_, disk, 0, 256, 1);
    flush(a_, disk);
    const auto key = *KeyId::make(record_of(b_, name).record.open_key().key());
    auto& store = node_.node().store();
    const KeyLength length = store.info(key)->length;
    // The node has enough of this key: what comes next goes to another one.
    ASSERT_TRUE(run(node_.process(), store.seal(key, disk->held_epoch(), length)));
    die_at(a_, point);
    write(a_, disk, 100, 128, 2);
    EXPECT_FALSE(wait(a_, disk->flush()));
    EXPECT_EQ(points_.fired_at(), point);
    disk = take_over(a_, name);
    Tags expected(256, 1);
    std::fill_n(expected.begin() + 100, 128, 2);
    EXPECT_EQ(read(a_, disk, 0, 256), expected);
    write(a_, disk, 0, 1, 3);
    expected[0] = 3;
    disk = take_over(a_, name);
    EXPECT_EQ(read(a_, disk, 0, 256), expected);
    EXPECT_NE(record_of(b_, name).record.last_sealed().key(), key.value());
    close(a_, disk);
  }
}

// The same when the roll began because the device failed: a sync of the key's only copy. All that
// was flushed is there, so the next owner, and the one after the node's restart, must get it.
TEST_F(Promises, F2_takeover_in_the_middle_of_a_roll_from_a_failed_sync) {
  for (const Death node_dies : {Death::kill, Death::power}) {
    for (const std::string point : {"disk.key_created", "disk.key_named"}) {
      SCOPED_TRACE(point);
      const std::string name = "d-" + point + (node_dies == Death::power ? "-power" : "-kill");
      create(name, 1024);
      DiskPtr disk = open(a_, name);
      write(a_, disk, 0, 256, 1);
      write(a_, disk, 300, 1, 1);  // small: its blocks are in the ring, and in no synced file
      flush(a_, disk);
      const auto key = *KeyId::make(record_of(b_, name).record.open_key().key());
      FileFault fault;
      fault.operation = FileOperation::sync;
      fault.path_part = key.hex() + ".data";
      node_.files().fail(fault);
      die_at(a_, point);
      write(a_, disk, 100, 128, 2);
      EXPECT_FALSE(wait(a_, disk->flush()));
      EXPECT_EQ(points_.fired_at(), point);
      bury_and_start(a_);
      if (node_dies == Death::power) restart_node(node_dies);
      disk = open(a_, name);
      Tags expected(301, 1);
      std::fill_n(expected.begin() + 100, 128, 2);
      std::fill_n(expected.begin() + 256, 44, 0);
      EXPECT_EQ(read(a_, disk, 0, 301), expected);
      write(a_, disk, 0, 1, 3);
      expected[0] = 3;
      disk = take_over(a_, name);
      EXPECT_EQ(read(a_, disk, 0, 301), expected);
      close(a_, disk);
      collect(b_);
      disk = open(b_, name);
      EXPECT_EQ(read(b_, disk, 0, 301), expected);
      close(b_, disk);
      node_.files().clear_faults();
    }
  }
}

// The log of the only copy is damaged in its midst: the disk is unknown until its owner accepts the
// loss; then it is a prefix of its log, whichever process died in between and how often.
TEST_F(Promises, RepairWithLossLeavesAPrefixAfterADeathAtAnyStep) {
  int number = 0;
  for (const std::string point : {"",
                                  "disk.repair_begun",
                                  "disk.repair_done",
                                  "repair.before_kept",
                                  "repair.after_kept",
                                  "repair.before_names",
                                  "repair.before_mark",
                                  "repair.after_mark"}) {
    SCOPED_TRACE(point);
    const std::string name = "d" + std::to_string(number++);
    create(name);
    DiskPtr disk = open(a_, name);
    std::vector<std::uint64_t> ends;
    const auto key_of = [&] { return *KeyId::make(record_of(b_, name).record.open_key().key()); };
    for (Tag tag = 1; tag <= 4; ++tag) {
      write(a_, disk, tag, 4, tag);
      flush(a_, disk);
      ends.push_back(node_.node().store().info(key_of())->length.log_bytes);
    }
    write(a_, disk, 20, 1, 9);  // only in the batch file: later than what is lost
    const KeyId key = key_of();
    bury(a_);
    node_.stop();
    const std::uint64_t third = limits::kLogHeadBytes + ends[1];
    ASSERT_TRUE(
        node_.files().flip_bit(storaged::key_path(key, storaged::KeyFileKind::log), third + 40, 1));
    start_node();
    start_host(a_);
    disk = a_.admin().open(record_of(a_, name), disk::AsyncDiskOptions());
    std::vector<std::byte> bytes(kBlockBytes);
    EXPECT_EQ(answer_of(wait(a_, read_task(disk, 0, bytes))), Outcome(Errc::unknown));
    must(a_, disk->leave());
    const auto told = must(a_, a_.admin().repair(name, false));
    EXPECT_TRUE(told.needed);
    EXPECT_FALSE(told.done);
    EXPECT_EQ(told.lost_records, 2U);
    if (point.starts_with("disk.")) die_at(a_, point);
    if (point.starts_with("repair.")) points_.arm(node_.process(), point, 1);
    const auto first = wait(a_, a_.admin().repair(name, true));
    EXPECT_EQ(first && *first, point.empty());
    if (!point.empty()) {
      EXPECT_EQ(points_.fired_at(), point);
      if (point.starts_with("repair.")) restart_node(Death::power);
      bury_and_start(a_);
      must(a_, a_.admin().repair(name, true));
    }
    disk = open(a_, name);
    EXPECT_EQ(read(a_, disk, 0, 22),
              (Tags{0, 1, 2, 2, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
    write(a_, disk, 3, 1, 7);
    disk = take_over(a_, name);
    EXPECT_EQ(read(a_, disk, 1, 5), (Tags{1, 2, 7, 2, 2}));
    close(a_, disk);
    EXPECT_FALSE(must(a_, a_.admin().repair(name, true)).needed);
    collect(b_);
  }
}

TEST_F(Promises, C3_reader_after_owner_crash) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 4, 1);
  flush(a_, disk);
  write(a_, disk, 2, 4, 2);
  bury(a_);
  DiskPtr reader = open(b_, "d");
  const Tags found = read(b_, reader, 0, 6);  // another host: its batch file is out of reach
  EXPECT_EQ(found, (Tags{1, 1, 1, 1, 0, 0}));
  write(b_, reader, 0, 1, 3);
  close(b_, reader);
  // The first host is back with writes that its guest believes in: an error, never older bytes.
  start_host(a_);
  disk = a_.admin().open(record_of(a_, "d"), disk::AsyncDiskOptions());
  std::vector<std::byte> bytes(kBlockBytes);
  EXPECT_EQ(answer_of(wait(a_, read_task(disk, 0, bytes))), Outcome(Errc::unknown));
  must(a_, disk->leave());
  must(a_, a_.admin().discard_batch_file("d"));
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 6), (Tags{3, 1, 1, 1, 0, 0}));
  close(a_, disk);
}

// A guest that moves from host to host: each finds all that was acknowledged on the one before.
TEST_F(Promises, C3_destination_reads_everything_before) {
  create("d");
  DiskPtr source = open(a_, "d");
  Tags expected(kBlocks, 0);
  for (Tag tag = 1; tag < 12; ++tag) {
    SCOPED_TRACE(tag);
    SimHost& from = tag % 2 == 1 ? a_ : b_;
    SimHost& to = tag % 2 == 1 ? b_ : a_;
    write(from, source, tag, 2, tag);
    expected[tag] = expected[tag + 1] = tag;
    DiskPtr destination = open(to, "d");
    EXPECT_EQ(read(to, destination, 0, kBlocks), expected);
    write(to, destination, 60, 1, tag);
    expected[60] = tag;
    EXPECT_EQ(read(to, destination, 0, kBlocks), expected);
    close(from, source);
    source = std::move(destination);
  }
  close(b_, source);
}

// ---- starting again ----

TEST_F(Promises, F14_everything_off_starts_in_any_order) {
  create("d");
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 4, 1);
  flush(a_, disk);
  for (const bool node_first : {true, false}) {
    SCOPED_TRACE(node_first);
    node_.process().freeze();
    bury(a_, Death::power);
    bury(b_, Death::power);
    node_.bury(Death::power);
    if (node_first) start_node();
    a_.start();
    b_.start();
    world_.run_for(std::chrono::seconds(3));
    if (!node_first) start_node();
    const auto up = [this] { return a_.is_ready() && b_.is_ready(); };
    ASSERT_TRUE(world_.run_until(up, kStuck));
    disk = open(a_, "d");
    EXPECT_EQ(read(a_, disk, 0, 4), Tags(4, 1));
  }
  close(a_, disk);
}

// All clients were stopped hard, and the node with them: nobody waits longer than one lease.
TEST_F(Promises, F17_stale_holders_stop_no_disk_for_longer_than_a_lease) {
  for (int i = 0; i < 8; ++i) create("d" + std::to_string(i));
  for (const bool node_as_well : {false, true}) {
    SCOPED_TRACE(node_as_well);
    for (int i = 0; i < 8; ++i) {
      DiskPtr disk = open(a_, "d" + std::to_string(i));
      write(a_, disk, 0, 1, 1);
      flush(a_, disk);
    }
    bury(a_, Death::power);
    if (node_as_well) restart_node(Death::power);
    start_host(a_);
    const TimePoint begun = world_.now();
    for (int i = 0; i < 8; ++i) {
      DiskPtr disk = open(a_, "d" + std::to_string(i));
      EXPECT_EQ(read(a_, disk, 0, 1), Tags{1});
      close(a_, disk);
    }
    EXPECT_LT(world_.now() - begun, kGrace);
  }
}

// ---- clones ----

// Every disk a clone of the one before, each a little different: no chain to be walked or lost.
TEST_F(Promises, S10_fifty_clones_deep) {
  constexpr std::uint64_t kDepth = 50;
  create("d0");
  DiskPtr disk = open(a_, "d0");
  write(a_, disk, 0, kDepth + 4, 1);
  close(a_, disk);
  Tags expected(kDepth + 4, 1);
  for (std::uint64_t depth = 1; depth <= kDepth; ++depth) {
    SCOPED_TRACE(depth);
    const std::string parent = "d" + std::to_string(depth - 1);
    const std::string name = "d" + std::to_string(depth);
    must(a_, a_.admin().clone(parent, {name}));
    disk = open(a_, name);
    write(a_, disk, depth, 2, depth + 1);
    expected[depth] = expected[depth + 1] = depth + 1;
    if (depth % 3 == 0) checkpoint(a_, disk);
    if (depth % 5 == 0) disk = take_over(a_, name);
    close(a_, disk);
    if (depth % 2 == 0) must(b_, b_.admin().remove(parent, true, false));
    if (depth % 10 == 0) collect(b_);
  }
  disk = open(b_, "d" + std::to_string(kDepth));
  EXPECT_EQ(read(b_, disk, 0, kDepth + 4), expected);
  close(b_, disk);
}

TEST_F(Promises, G14_many_clones_overwrite_one_block) {
  create("base");
  DiskPtr disk = open(a_, "base");
  write(a_, disk, 0, 8, 1);
  close(a_, disk);
  std::vector<std::string> names;
  for (int i = 0; i < 12; ++i) names.push_back("c" + std::to_string(i));
  must(a_, a_.admin().clone("base", names));
  disk::AsyncDiskOptions eager;
  eager.free_batch_blocks = 1;
  for (std::size_t i = 0; i < names.size(); ++i) {
    disk = open(a_, names[i], eager);
    for (Tag round = 0; round < 3; ++round) {
      write(a_, disk, 3, 1, 10 * i + round + 2);
      checkpoint(a_, disk);
    }
    if (i % 3 == 0) zero(a_, disk, 5, 1);
    close(a_, disk);
    if (i % 4 == 3) must(a_, a_.admin().remove(names[i - 1], true, false));
    if (i % 4 == 3) collect(b_);
  }
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i % 4 == 2) continue;
    SCOPED_TRACE(i);
    disk = open(b_, names[i]);
    const Tag fifth = i % 3 == 0 ? 0 : 1;
    EXPECT_EQ(read(b_, disk, 0, 8), (Tags{1, 1, 1, 10 * i + 4, 1, fifth, 1, 1}));
    close(b_, disk);
  }
  disk = open(b_, "base");
  EXPECT_EQ(read(b_, disk, 0, 8), Tags(8, 1));
  close(b_, disk);
}

// Discards in a clone, at any alignment, over what its base holds; the base keeps it.
TEST_F(Promises, S6_discard_over_base_blocks_in_a_clone) {
  create("base");
  DiskPtr base = open(a_, "base");
  write(a_, base, 0, 16, 1);
  close(a_, base);
  must(a_, a_.admin().clone("base", {"c"}));
  DiskPtr clone = open(a_, "c");
  must(a_, clone->zero(kBlockBytes + kSectorBytes, 4 * kBlockBytes));
  must(a_, clone->zero(9 * kBlockBytes, 2 * kBlockBytes));
  must(a_, clone->zero(15 * kBlockBytes + 7, 100));
  const Tags expected{1, kTorn, 0, 0, 0, kTorn, 1, 1, 1, 0, 0, 1, 1, 1, 1, kTorn};
  EXPECT_EQ(read(a_, clone, 0, 16), expected);
  clone = take_over(a_, "c");
  EXPECT_EQ(read(a_, clone, 0, 16), expected);
  checkpoint(a_, clone);
  close(a_, clone);
  collect(b_);
  clone = open(b_, "c");
  EXPECT_EQ(read(b_, clone, 0, 16), expected);
  close(b_, clone);
  base = open(b_, "base");
  EXPECT_EQ(read(b_, base, 0, 16), Tags(16, 1));
  close(b_, base);
}

// Each snapshot keeps the size and the bytes of its moment, whatever the disk's size is later.
TEST_F(Promises, S8_resizes_between_snapshots) {
  create("d", 8);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  snapshot(b_, "d", "eight");
  must(b_, b_.admin().resize("d", 16 * kBlockBytes, false, false));  // by the holder
  write(a_, disk, 8, 8, 2);
  snapshot(b_, "d", "sixteen");
  close(a_, disk);
  must(a_, a_.admin().resize("d", 4 * kBlockBytes, true, false));
  snapshot(a_, "d", "four");
  must(a_, a_.admin().resize("d", 12 * kBlockBytes, false, false));
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 12), (Tags{1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0}));
  close(a_, disk);
  must(a_, a_.admin().clone("d@sixteen", {"c"}));
  must(a_, a_.admin().rollback("d", "eight", false));
  cut_power();
  collect(b_);
  std::map<std::string, std::uint64_t> sizes;
  for (const auto& snap : must(b_, b_.admin().snapshots("d"))) sizes[snap.name] = snap.size_bytes;
  EXPECT_EQ(sizes["eight"], 8 * kBlockBytes);
  EXPECT_EQ(sizes["sixteen"], 16 * kBlockBytes);
  EXPECT_EQ(sizes["four"], 4 * kBlockBytes);
  EXPECT_EQ(read_snapshot(b_, "d", "four", 0, 4), Tags(4, 1));
  disk = open(b_, "d");
  EXPECT_EQ(disk->size_bytes(), 8 * kBlockBytes);
  EXPECT_EQ(read(b_, disk, 0, 8), Tags(8, 1));
  close(b_, disk);
  disk = open(b_, "c");
  EXPECT_EQ(disk->size_bytes(), 16 * kBlockBytes);
  EXPECT_EQ(read(b_, disk, 8, 8), Tags(8, 2));
  close(b_, disk);
}

}  // namespace
}  // namespace vmstore::sim
