// SPDX-License-Identifier: Apache-2.0
// Several nodes: what is promised when some of them die (DESIGN 4.5-4.7, 6).
#include <algorithm>

#include "meta/records.h"
#include "meta/schema.h"
#include "tests/sim/promises_fixture.h"
#include "tests/support/code_of.h"

namespace vmstore::sim {
namespace {

/// Three nodes. Both hosts have their session with the first.
class Cluster : public Promises {
 protected:
  Cluster() : Promises("/node") {
    for (const std::string name : {"/node2", "/node3"}) {
      SimNodeOptions options;
      options.collect_by_itself = false;
      options.endpoint = name;
      options.address = name;
      options.catalogue = node_.shared_catalogue();
      options.join = node_.node().identity().store;
      others_.push_back(std::make_unique<SimNode>(world_, network_, options));
      start(*others_.back());
    }
    world_.run_for(std::chrono::seconds(1));  // the hosts hear of them
  }
  ~Cluster() override {
    a_.process().kill();
    b_.process().kill();
  }

  void start(SimNode& node) {
    node.start();
    EXPECT_TRUE(world_.run_until([&node] { return node.is_ready() || node.failure(); }, kStuck));
    EXPECT_FALSE(node.failure()) << to_string(*node.failure());
  }
  void kill(SimNode& node, Death death = Death::kill) {
    node.process().freeze();
    node.bury(death);
  }
  SimNode& second() { return *others_[0]; }
  SimNode& third() { return *others_[1]; }
  std::vector<SimNode*> running() {
    std::vector<SimNode*> nodes;
    for (SimNode* node : {&node_, others_[0].get(), others_[1].get()}) {
      if (node->is_ready()) nodes.push_back(node);
    }
    return nodes;
  }
  /// Blocks of each running node's copies of the key.
  std::vector<std::uint64_t> blocks_of(KeyId key) {
    std::vector<std::uint64_t> found;
    for (SimNode* node : running()) {
      const auto state = node->node().store().info(key);
      if (state) found.push_back(state->length.blocks.value);
    }
    return found;
  }
  KeyId open_key(const std::string& name) {
    return *KeyId::make(record_of(b_, name).record.open_key().key());
  }

  /// The nodes of the disk's open key.
  std::pair<SimNode*, SimNode*> copies_of(const std::string& name) {
    const auto record = record_of(b_, name).record;
    EXPECT_EQ(record.open_key().nodes_size(), 2);
    const auto node = [&](int place) {
      const auto id = meta::from_pb<NodeId>(record.open_key().nodes(place));
      const auto nodes = running();
      const auto found = std::find_if(nodes.begin(), nodes.end(), [&](SimNode* one) {
        return one->node().identity().node == id;
      });
      return *found;
    };
    return {node(0), node(1)};
  }
  /// As if the folder were that of yesterday.
  void raise_start_count(NodeId node) {
    const std::string key = std::string(meta::kNodePrefix) + node.hex();
    auto& catalogue = b_.session().catalogue();
    const auto found = must(b_, catalogue.get(key));
    auto record = *meta::decode<meta::pb::NodeRecord>(found.entry->value);
    record.set_start_count(record.start_count() + 3);
    meta::Txn txn;
    txn.then_ops.push_back(meta::Op{key, meta::encode(record)});
    edit(std::move(txn));
  }
  /// Behind everybody's back.
  void edit(meta::Txn txn) {
    VirtualScheduler editor(world_, "editor");
    meta::MemStore store(editor, node_.shared_catalogue());
    EXPECT_TRUE(run(editor, store.txn(std::move(txn))));
    editor.kill();
  }
  /// The first block, of a disk opened for it.
  static Task<Outcome> read_anew(SimHost& host, std::string name, MutableBytes into) {
    VMS_CO_TRY(auto found, co_await host.session().catalogue().disk_by_name(std::move(name)));
    const disk::AsyncDiskOptions options;
    VMS_CO_TRY(const auto disk, co_await host.admin().open_for_guest(std::move(found), options));
    const auto outcome = co_await disk->read(0, into);
    const auto left = co_await disk->leave();
    ignore(left, "the test looks at what was read");
    co_return outcome;
  }

  std::vector<std::unique_ptr<SimNode>> others_;
};

TEST_F(Cluster, I1_an_acknowledged_flush_is_on_every_copy) {
  create("d", kBlocks, 3);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 40, 1);
  flush(a_, disk);
  const auto blocks = blocks_of(open_key("d"));
  ASSERT_EQ(blocks.size(), 3U);
  for (const std::uint64_t count : blocks) EXPECT_GE(count, 40U);
  close(a_, disk);
}

TEST_F(Cluster, CopiesAreOnAsManyNodesAsWereAskedFor) {
  for (const std::uint32_t copies : {1U, 2U, 3U}) {
    const std::string name = "d" + std::to_string(copies);
    create(name, kBlocks, copies);
    DiskPtr disk = open(a_, name);
    write(a_, disk, 0, 8, copies);
    flush(a_, disk);
    EXPECT_EQ(blocks_of(open_key(name)).size(), copies);
    EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, copies));
    close(a_, disk);
  }
  const auto refused = wait(b_, b_.admin().create("d4", kBlockBytes, 4));
  ASSERT_TRUE(refused);
  EXPECT_EQ(code_of(*refused), Errc::unsupported);
}

TEST_F(Cluster, DeathOfANodeIsAPause) {
  create("d", kBlocks, 3);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  const KeyId before = open_key("d");
  kill(third());
  write(a_, disk, 4, 8, 2);
  const TimePoint began = world_.now();
  flush(a_, disk);
  EXPECT_LT(world_.now() - began, std::chrono::seconds(5));
  EXPECT_NE(open_key("d"), before);
  EXPECT_EQ(blocks_of(open_key("d")).size(), 2U);
  EXPECT_EQ(read(a_, disk, 0, 12), (Tags{1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2}));
  close(a_, disk);
}

TEST_F(Cluster, I1_a_flushed_write_survives_all_but_one_of_its_copies) {
  create("d", kBlocks, 3);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 40, 1);
  flush(a_, disk);
  bury(a_);
  kill(second(), Death::power);
  kill(third(), Death::power);
  start_host(a_);
  disk = open(a_, "d");
  EXPECT_EQ(read(a_, disk, 0, 40), Tags(40, 1));
}

TEST_F(Cluster, BelowMinCopiesADiskWaitsAndGoesOnByItself) {
  create("d", kBlocks, 3);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 4, 1);
  flush(a_, disk);
  kill(second());
  kill(third());
  write(a_, disk, 0, 4, 2);
  const Pending flushing = begin(a_, disk->flush());
  world_.run_for(std::chrono::seconds(60));
  EXPECT_FALSE(flushing->ended());
  start(second());
  finish(flushing);
  EXPECT_EQ(read(a_, disk, 0, 4), Tags(4, 2));
  close(a_, disk);
}

// The node with the session, the catalogue's way and the leases dies: another one takes its part.
TEST_F(Cluster, DeathOfTheHomeNodeIsAPause) {
  create("d", kBlocks, 3);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  kill(node_);
  write(a_, disk, 4, 8, 2);
  flush(a_, disk);
  EXPECT_EQ(read(a_, disk, 0, 12), (Tags{1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2}));
  snapshot(a_, "d", "s");
  write(a_, disk, 0, 1, 3);
  close(a_, disk);
  disk = open(b_, "d");
  EXPECT_EQ(read(b_, disk, 0, 2), (Tags{3, 1}));
  EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 2), (Tags{1, 1}));
  close(b_, disk);
}

// The two hosts have their sessions with different nodes.
TEST_F(Cluster, C3_destination_at_another_node_reads_through_the_holder) {
  SimHost c(world_, network_, second(), {});
  start_host(c);
  create("d", kBlocks, 2);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 4, 1);
  DiskPtr destination = open(c, "d");
  EXPECT_EQ(read(c, destination, 0, 4), Tags(4, 1));
  write(a_, disk, 0, 2, 2);
  EXPECT_EQ(read(c, destination, 0, 4), (Tags{2, 2, 1, 1}));
  disk->set_connected(false);
  write(c, destination, 1, 1, 3);
  EXPECT_EQ(read(c, destination, 0, 4), (Tags{2, 3, 1, 1}));
  EXPECT_EQ(read(a_, disk, 0, 4), (Tags{2, 3, 1, 1}));
  EXPECT_FALSE(disk->is_owner());
  EXPECT_NE(a_.session().node().node(), c.session().node().node());
  close(c, destination);
  close(a_, disk);
  c.process().kill();
}

// A holder whose session is with a node that nobody can ask is there until its lease has run out.
TEST_F(Cluster, R17_silent_node_may_have_the_holder) {
  SimHost c(world_, network_, second(), {});
  start_host(c);
  create("d", kBlocks, 1);
  DiskPtr disk = open(c, "d");
  write(c, disk, 0, 4, 1);
  flush(c, disk);
  const TimePoint began = world_.now();
  c.process().freeze();
  second().process().freeze();
  const auto found = must(a_, a_.session().node().holder(disk->id()));
  EXPECT_TRUE(found.held);
  const auto is_free = [&] { return !must(a_, a_.session().node().holder(disk->id())).held; };
  while (!is_free() && world_.now() - began < std::chrono::seconds(30)) {
    world_.run_for(std::chrono::milliseconds(200));
  }
  EXPECT_GE(world_.now() - began, Duration(limits::kLeaseTime));
  EXPECT_LT(world_.now() - began, 3 * Duration(limits::kLeaseTime));
  c.process().kill();
}

// A node that was stopped with SIGSTOP says nothing: silence is death, not an answer.
TEST_F(Cluster, SilentNodeIsAPause) {
  create("d", kBlocks, 3);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  network_.hold(third().process(), a_.process());
  network_.hold(a_.process(), third().process());
  write(a_, disk, 0, 8, 2);
  const TimePoint began = world_.now();
  flush(a_, disk);
  EXPECT_LT(world_.now() - began, std::chrono::seconds(5));
  network_.release(third().process(), a_.process());
  network_.release(a_.process(), third().process());
  EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 2));
  close(a_, disk);
}

// Whichever it is: 2 s without a heartbeat, once, however many connections lead to it (the bar is
// 3 s).
TEST_F(Cluster, AnySilentNodeIsAPauseOfThreeSeconds) {
  const auto cut = [this](SimNode& node, bool off) {
    std::vector<VirtualScheduler*> others{&a_.process()};
    for (SimNode* one : running()) {
      if (one != &node) others.push_back(&one->process());
    }
    for (VirtualScheduler* one : others) {
      off ? network_.hold(node.process(), *one) : network_.release(node.process(), *one);
      off ? network_.hold(*one, node.process()) : network_.release(*one, node.process());
    }
  };
  for (int turn = 0; turn < 8; ++turn) {
    const std::string name = "d" + std::to_string(turn);
    create(name, kBlocks, 2);
    DiskPtr disk = open(a_, name);
    write(a_, disk, 0, 8, 1);
    flush(a_, disk);
    const NodeId home = a_.session().node().node();
    const auto [one, other] = copies_of(name);
    // First the home node, wherever it went meanwhile, then a copy that is elsewhere.
    const bool one_is_home = one->node().identity().node == home;
    SimNode& silent = one_is_home == (turn < 6) ? *one : *other;
    SCOPED_TRACE(silent.endpoint());
    cut(silent, true);
    Duration longest(0);
    for (Tag tag = 2; tag < 42; ++tag) {
      write(a_, disk, 0, 8, tag);
      const TimePoint began = world_.now();
      flush(a_, disk);
      longest = std::max(longest, world_.now() - began);
      world_.run_for(std::chrono::milliseconds(100));
    }
    EXPECT_LT(longest, std::chrono::milliseconds(3300));
    EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 41));
    cut(silent, false);
    close(a_, disk);
    world_.run_for(std::chrono::seconds(15));
  }
}

// A node that answers heartbeats and whose disk hangs: 5 s, then the log goes on without it, three
// times in ten minutes, and not where nobody could take its place.
TEST_F(Cluster, SlowNodeIsAPauseOfFiveSeconds) {
  create("d", kBlocks, 2);
  disk::AsyncDiskOptions options;
  options.key_roll_bytes = 16 * kBlockBytes;
  DiskPtr disk = open(a_, "d", options);
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  const auto [slow, other] = copies_of("d");
  WorkDelay hang;
  hang.slow_one_in = 1;
  hang.slow = std::chrono::minutes(3);
  slow->set_delay(hang);
  write(a_, disk, 0, 8, 2);
  const TimePoint began = world_.now();
  flush(a_, disk);
  EXPECT_GE(world_.now() - began, std::chrono::seconds(5));
  EXPECT_LT(world_.now() - began, std::chrono::seconds(12));
  const auto [first, second] = copies_of("d");
  EXPECT_NE(first, slow);
  EXPECT_NE(second, slow);
  // The next keys do not go there, either, for a while.
  world_.run_for(std::chrono::seconds(30));
  for (Tag tag = 3; tag < 8; ++tag) {
    write(a_, disk, 0, 8, tag);
    const TimePoint next = world_.now();
    flush(a_, disk);
    EXPECT_LT(world_.now() - next, std::chrono::seconds(1));
  }
  EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 7));
  slow->set_delay(WorkDelay());
  world_.run_for(std::chrono::minutes(4));
  close(a_, disk);
  disk = open(b_, "d");
  EXPECT_EQ(read(b_, disk, 0, 8), Tags(8, 7));
  close(b_, disk);
}

TEST_F(Cluster, SlowNodeThatNobodyCanReplaceIsWaitedFor) {
  create("d", kBlocks, 2);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  const auto [slow, other] = copies_of("d");
  for (SimNode* node : running()) {
    if (node != slow && node != other) kill(*node);
  }
  const KeyId key = open_key("d");
  WorkDelay hang;
  hang.slow_one_in = 1;
  hang.slow = std::chrono::seconds(20);
  slow->set_delay(hang);
  write(a_, disk, 0, 8, 2);
  flush(a_, disk);
  EXPECT_EQ(open_key("d"), key);
  slow->set_delay(WorkDelay());
  EXPECT_EQ(read(a_, disk, 0, 8), Tags(8, 2));
  close(a_, disk);
}

// An owner that was stopped, or cut off, while another took the disk over.
TEST_F(Cluster, I3_stale_owner_never_gets_a_flush_acknowledged) {
  create("d", kBlocks, 3);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  for (SimNode* node : running()) {
    network_.hold(node->process(), a_.process());
    network_.hold(a_.process(), node->process());
  }
  write(a_, disk, 0, 8, 2);
  const Pending flushing = begin(a_, disk->flush());
  world_.run_for(std::chrono::seconds(20));
  EXPECT_FALSE(flushing->ended());
  DiskPtr other = open(b_, "d");
  write(b_, other, 0, 4, 3);
  flush(b_, other);
  for (SimNode* node : running()) {
    network_.release(node->process(), a_.process());
    network_.release(a_.process(), node->process());
  }
  ASSERT_TRUE(flushing->wait(kStuck));
  EXPECT_FALSE(flushing->outcome());
  EXPECT_EQ(read(b_, other, 0, 8), (Tags{3, 3, 3, 3, 1, 1, 1, 1}));
  close(b_, other);
}

// The catalogue knows of more starts than the folder: somebody put an older copy of it back. What
// it has may be less than it once acknowledged, so nothing of it is believed while the other is
// away.
TEST_F(Cluster, H4_takeover_believes_no_folder_that_was_rolled_back) {
  create("d", kBlocks, 2);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  const auto [rolled_back, other] = copies_of("d");
  bury(a_);
  const NodeId id = rolled_back->node().identity().node;
  kill(*rolled_back);
  world_.run_for(std::chrono::seconds(10));  // the hosts find another node
  raise_start_count(id);
  start(*rolled_back);
  start_host(a_);
  world_.run_for(std::chrono::seconds(1));
  kill(*other);
  std::vector<std::byte> bytes(kBlockBytes);
  const Pending reading = begin(a_, read_anew(a_, "d", bytes));
  world_.run_for(std::chrono::seconds(20));
  EXPECT_FALSE(reading->ended() && reading->outcome()) << "served by a copy that is not believed";
  start(*other);
  if (reading->wait(kStuck) && !reading->outcome()) must(a_, read_anew(a_, "d", bytes));
  EXPECT_EQ(tags_of(0, bytes), Tags{1});
}

// The owner died while a record was on one copy only. Whatever a takeover serves is on both.
TEST_F(Cluster, I2_what_a_takeover_serves_stays) {
  create("d", kBlocks, 2);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  const auto [one, other] = copies_of("d");
  network_.hold(a_.process(), other->process());
  write(a_, disk, 0, 8, 2);
  const Pending flushing = begin(a_, disk->flush());
  world_.run_for(std::chrono::milliseconds(300));
  EXPECT_FALSE(flushing->ended());
  bury(a_, Death::power);  // with its batch file
  start_host(a_);
  disk = open(b_, "d");
  const Tags served = read(b_, disk, 0, 8);
  kill(*one, Death::power);
  EXPECT_EQ(read(b_, disk, 0, 8), served);
}

// A device that lied about its newest syncs, or a torn end that was none: the copy is shorter, and
// nothing tells so. Whatever others have behind its end may have been acknowledged.
TEST_F(Cluster, I1_copy_that_lost_its_tail_is_completed) {
  create("d", kBlocks, 2);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  const auto [one, other] = copies_of("d");
  world_.run_for(std::chrono::seconds(3));  // what was committed is told
  one->files().freeze();                    // from here on it lies
  write(a_, disk, 0, 6, 2);
  flush(a_, disk);
  const KeyId key = open_key("d");
  bury(a_, Death::power);
  kill(*one, Death::power);
  start(*one);
  start_host(a_);
  disk = open(b_, "d");
  EXPECT_EQ(read(b_, disk, 0, 8), (Tags{2, 2, 2, 2, 2, 2, 1, 1}));
  const auto blocks = blocks_of(key);
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_EQ(blocks[0], blocks[1]);
  kill(*other, Death::power);
  EXPECT_EQ(read(b_, disk, 0, 8), (Tags{2, 2, 2, 2, 2, 2, 1, 1}));
}

TEST_F(Cluster, H9_copy_that_is_away_is_waited_for) {
  create("d", kBlocks, 1);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  const auto nodes = record_of(b_, "d").record.open_key().nodes();
  ASSERT_EQ(nodes.size(), 1);
  const auto has_it = [&](SimNode* node) {
    return node->node().identity().node == meta::from_pb<NodeId>(nodes[0]);
  };
  const auto all = running();
  SimNode* const only = *std::find_if(all.begin(), all.end(), has_it);
  close(a_, disk);
  disk = open(b_, "d");
  kill(*only);
  std::vector<std::byte> bytes(8 * kBlockBytes);
  const Pending reading = begin(b_, read_task(disk, 0, bytes));
  world_.run_for(std::chrono::seconds(60));
  EXPECT_FALSE(reading->ended()) << "nobody knows what is in it";
  start(*only);
  finish(reading);
  EXPECT_EQ(tags_of(0, bytes), Tags(8, 1));
  close(b_, disk);
}

TEST_F(Cluster, I9_no_believed_copy_is_never_an_empty_disk) {
  create("d", kBlocks, 2);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 8, 1);
  flush(a_, disk);
  bury(a_);
  auto found = record_of(b_, "d");
  auto wanted = found.record;
  for (int i = 0; i < 2; ++i) wanted.mutable_open_key()->mutable_incarnations(i)->set_low(12345);
  must(b_, b_.session().catalogue().update(found, wanted));
  start_host(a_);
  world_.run_for(std::chrono::seconds(10));
  auto again = record_of(a_, "d");
  const disk::AsyncDiskOptions options;
  const auto opened = wait(a_, a_.admin().open_for_guest(std::move(again), options));
  ASSERT_TRUE(opened);
  EXPECT_EQ(code_of(*opened), Errc::unknown);
}

TEST_F(Cluster, PowerOffOfEverythingLosesNothingFlushed) {
  create("d", kBlocks, 3);
  DiskPtr disk = open(a_, "d");
  write(a_, disk, 0, 40, 1);
  flush(a_, disk);
  snapshot(a_, "d", "s");
  write(a_, disk, 0, 8, 2);
  flush(a_, disk);
  bury(a_, Death::power);
  bury(b_, Death::power);
  for (SimNode* node : running()) kill(*node, Death::power);
  start(third());
  start(node_);
  start(second());
  start_host(a_);
  start_host(b_);
  const TimePoint began = world_.now();
  disk = open(a_, "d");
  Tags expected(40, 1);
  std::fill_n(expected.begin(), 8, Tag{2});
  EXPECT_EQ(read(a_, disk, 0, 40), expected);
  EXPECT_LT(world_.now() - began, Duration(limits::kLeaseTime) + std::chrono::seconds(1));
  EXPECT_EQ(read_snapshot(b_, "d", "s", 0, 40), Tags(40, 1));
  close(a_, disk);
}

}  // namespace
}  // namespace vmstore::sim
