// SPDX-License-Identifier: Apache-2.0
// meta_*: what clients may read and write, watches, and numbers that nobody should send.
#include <gtest/gtest.h>

#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "tests/unit/storaged_service/gc_disk.h"

namespace vmstore::storaged::test {
namespace {

class ServiceMeta : public ::testing::Test {
 protected:
  void SetUp() override {
    machine_.start_well();
    client_ = std::make_unique<Client>(machine_, "client");
    client_->greet();
  }
  static pb::MetaTxnRequest put(const std::string& key, const std::string& value) {
    pb::MetaTxnRequest request;
    auto* const op = request.add_then_ops();
    op->set_key(key);
    op->set_put(value);
    return request;
  }
  Errc put_error(const std::string& key, const std::string& value) {
    return client_->error_of(wire::Opcode::meta_txn, put(key, value));
  }
  pb::MetaGetReply get(const std::string& key) {
    pb::MetaGetRequest request;
    request.set_key(key);
    const auto reply = client_->call<pb::MetaGetReply>(wire::Opcode::meta_get, request);
    EXPECT_TRUE(reply);
    return reply ? *reply : pb::MetaGetReply();
  }
  static std::string disk_value(const std::string& name) {
    return meta::encode(disk_record(kDisk, name, 1));
  }
  Machine machine_;
  std::unique_ptr<Client> client_;
};

TEST_F(ServiceMeta, WhatWasPutIsRead) {
  EXPECT_FALSE(get(meta::disk_key(kDisk)).found());
  ASSERT_EQ(put_error(meta::disk_key(kDisk), disk_value("a")), Errc::ok);
  const auto found = get(meta::disk_key(kDisk));
  ASSERT_TRUE(found.found());
  EXPECT_EQ(found.entry().value(), disk_value("a"));
  EXPECT_LE(found.entry().mod_revision(), found.revision());
}

TEST_F(ServiceMeta, TransactionSaysWhichListWasApplied) {
  pb::MetaTxnRequest request = put(meta::disk_key(kDisk), disk_value("a"));
  auto* const compare = request.add_compares();
  compare->set_key(meta::disk_key(kDisk));
  compare->set_exists(false);
  auto first = client_->call<pb::MetaTxnReply>(wire::Opcode::meta_txn, request);
  ASSERT_TRUE(first);
  EXPECT_TRUE(first->held());
  auto second = client_->call<pb::MetaTxnReply>(wire::Opcode::meta_txn, request);
  ASSERT_TRUE(second);
  EXPECT_FALSE(second->held());
}

TEST_F(ServiceMeta, OnlyGoodValuesUnderKnownKeysAreWritten) {
  const std::string id = kDisk.hex();
  EXPECT_EQ(put_error("/disk/" + id, "garbage"), Errc::corrupt);
  EXPECT_EQ(put_error("/disk/" + DiskId{1, 2}.hex(), disk_value("a")), Errc::invalid_argument);
  EXPECT_EQ(put_error("/disk/..", disk_value("a")), Errc::invalid_argument);
  EXPECT_EQ(put_error("/name/../x", meta::encode_id(kDisk)), Errc::invalid_argument);
  EXPECT_EQ(put_error("/name/a", "short"), Errc::corrupt);
  EXPECT_EQ(put_error("/name/a", meta::encode_id(kDisk)), Errc::ok);
  EXPECT_EQ(put_error("/elsewhere", "x"), Errc::permission);
  EXPECT_EQ(put_error("relative", "x"), Errc::invalid_argument);
  EXPECT_EQ(put_error("", "x"), Errc::invalid_argument);
  EXPECT_EQ(put_error("/" + std::string(limits::kMetaKeyBytesMax, 'a'), "x"),
            Errc::invalid_argument);
  EXPECT_EQ(put_error("/name/b", std::string(limits::kMetaValueBytesMax + 1, 'x')),
            Errc::invalid_argument);
  meta::pb::SnapshotRecord snapshot;
  *snapshot.mutable_id() = meta::to_pb(SnapshotId{3, 3});
  *snapshot.mutable_disk() = meta::to_pb(kDisk);
  snapshot.set_name("s");
  EXPECT_EQ(put_error(meta::snap_key(kDisk, "s"), meta::encode(snapshot)), Errc::ok);
  EXPECT_EQ(put_error(meta::snap_key(kDisk, "t"), meta::encode(snapshot)), Errc::invalid_argument);
  EXPECT_EQ(put_error(meta::snap_key(DiskId{9, 9}, "s"), meta::encode(snapshot)),
            Errc::invalid_argument);
}

TEST_F(ServiceMeta, TheStoresOwnEntriesAreNotWrittenByClients) {
  const auto found = get(std::string(meta::kStoreKey));
  ASSERT_TRUE(found.found());
  EXPECT_EQ(put_error(std::string(meta::kStoreKey), found.entry().value()), Errc::permission);
  EXPECT_EQ(put_error("/node/" + NodeId{1, 1}.hex(), "x"), Errc::permission);
  EXPECT_EQ(put_error(std::string(meta::kGcKey), "x"), Errc::permission);
  pb::MetaTxnRequest remove;
  auto* const op = remove.add_else_ops();
  op->set_key(std::string(meta::kStoreKey));
  op->set_remove(true);
  EXPECT_EQ(client_->error_of(wire::Opcode::meta_txn, remove), Errc::permission);
  op->set_key(std::string(meta::kKeyCounterKey));
  EXPECT_EQ(client_->error_of(wire::Opcode::meta_txn, remove), Errc::permission);
}

// Only by key_draw: a client that set it back would have numbers handed out twice.
TEST_F(ServiceMeta, G2_key_counter_is_not_written_by_clients) {
  const std::string key(meta::kKeyCounterKey);
  const auto made = get(key);
  ASSERT_TRUE(made.found());
  meta::pb::KeyCounter record;
  record.set_next(KeyId::kFirst + 1024);
  pb::MetaTxnRequest raise = put(key, meta::encode(record));
  EXPECT_EQ(client_->error_of(wire::Opcode::meta_txn, raise), Errc::permission);
  auto* const compare = raise.add_compares();
  compare->set_key(key);
  compare->set_mod_revision(made.entry().mod_revision());
  EXPECT_EQ(client_->error_of(wire::Opcode::meta_txn, raise), Errc::permission);
  EXPECT_EQ(get(key).entry().value(), made.entry().value());
}

TEST_F(ServiceMeta, TransactionsAreBounded) {
  pb::MetaTxnRequest request;
  for (std::uint64_t i = 0; i <= limits::kMetaTxnOpsMax; ++i) {
    auto* const op = request.add_then_ops();
    op->set_key("/name/n" + std::to_string(i));
    op->set_put(meta::encode_id(kDisk));
  }
  EXPECT_EQ(client_->error_of(wire::Opcode::meta_txn, request), Errc::invalid_argument);
  request.mutable_then_ops()->RemoveLast();
  EXPECT_EQ(client_->error_of(wire::Opcode::meta_txn, request), Errc::ok);
}

TEST_F(ServiceMeta, RangeGoesPageByPageAtOneRevision) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_EQ(put_error("/name/n" + std::to_string(i), meta::encode_id(kDisk)), Errc::ok);
  }
  pb::MetaRangeRequest request;
  request.set_prefix("/name/");
  request.set_limit(2);
  std::vector<std::string> keys;
  for (;;) {
    const auto reply = client_->call<pb::MetaRangeReply>(wire::Opcode::meta_range, request);
    ASSERT_TRUE(reply);
    for (const auto& entry : reply->entries()) keys.push_back(entry.key());
    if (!reply->more()) break;
    request.set_after(keys.back());
    request.set_revision(reply->revision());
    ASSERT_EQ(put_error("/name/later", meta::encode_id(kDisk)), Errc::ok);
  }
  EXPECT_EQ(keys.size(), 5U);
}

TEST_F(ServiceMeta, EveryRevisionAndLimitIsSurvived) {
  for (const std::uint64_t number : kHostileNumbers) {
    pb::MetaRangeRequest range;
    range.set_prefix("/");
    range.set_revision(number);
    static_cast<void>(client_->error_of(wire::Opcode::meta_range, range));
    range.set_revision(0);
    range.set_limit(static_cast<std::uint32_t>(number));
    EXPECT_EQ(client_->error_of(wire::Opcode::meta_range, range), Errc::ok) << number;
    pb::MetaTxnRequest txn = put("/name/a", meta::encode_id(kDisk));
    auto* const compare = txn.add_compares();
    compare->set_key("/name/a");
    compare->set_mod_revision(number);
    static_cast<void>(client_->error_of(wire::Opcode::meta_txn, txn));
    pb::MetaUnwatchRequest unwatch;
    unwatch.set_watch(number);
    EXPECT_EQ(client_->error_of(wire::Opcode::meta_unwatch, unwatch), Errc::ok) << number;
    pb::MetaWatchRequest watch;
    watch.set_prefix("/");
    watch.set_from_revision(number);
    static_cast<void>(client_->error_of(wire::Opcode::meta_watch, watch));
  }
  EXPECT_EQ(client_->error_of(wire::Opcode::ping, pb::NodeStatusRequest()), Errc::ok);
}

TEST_F(ServiceMeta, WatchTellsEveryChangeBehindItsAnswer) {
  ASSERT_EQ(put_error("/name/before", meta::encode_id(kDisk)), Errc::ok);
  pb::MetaWatchRequest request;
  request.set_prefix("/name/");
  request.set_from_revision(get("/name/before").entry().mod_revision());
  const auto watch = client_->call<pb::MetaWatchReply>(wire::Opcode::meta_watch, request);
  ASSERT_TRUE(watch) << to_string(watch.error());
  ASSERT_EQ(put_error("/name/after", meta::encode_id(kDisk)), Errc::ok);
  machine_.remove_meta("/name/before");
  machine_.world.run_for(std::chrono::seconds(1));
  const auto& events = client_->events();
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].entry().key(), "/name/before");
  EXPECT_EQ(events[1].entry().key(), "/name/after");
  EXPECT_TRUE(events[2].removed());
  for (const auto& event : events) EXPECT_EQ(event.watch(), watch->watch());
}

TEST_F(ServiceMeta, UnwatchEndsTheEvents) {
  pb::MetaWatchRequest request;
  request.set_prefix("/name/");
  const auto watch = client_->call<pb::MetaWatchReply>(wire::Opcode::meta_watch, request);
  ASSERT_TRUE(watch);
  pb::MetaUnwatchRequest unwatch;
  unwatch.set_watch(watch->watch());
  ASSERT_EQ(client_->error_of(wire::Opcode::meta_unwatch, unwatch), Errc::ok);
  ASSERT_EQ(put_error("/name/after", meta::encode_id(kDisk)), Errc::ok);
  machine_.world.run_for(std::chrono::seconds(1));
  EXPECT_TRUE(client_->events().empty());
}

TEST_F(ServiceMeta, WatchesOfASessionAreBounded) {
  pb::MetaWatchRequest request;
  request.set_prefix("/name/");
  Errc last = Errc::ok;
  for (std::size_t i = 0; i <= 64; ++i) {
    last = client_->error_of(wire::Opcode::meta_watch, request);
  }
  EXPECT_EQ(last, Errc::busy);
}

TEST_F(ServiceMeta, ClientThatDoesNotReadItsEventsIsClosed) {
  pb::MetaWatchRequest request;
  request.set_prefix("/disk/");
  ASSERT_EQ(client_->error_of(wire::Opcode::meta_watch, request), Errc::ok);
  // Nothing reaches the client any more; the node must not keep events for it without bound.
  machine_.network.hold(machine_.process(), client_->process());
  const std::string value = disk_value(std::string(30000, 'x'));
  for (int i = 0; i < 9000 && machine_.node().session_count() > 0; ++i) {
    machine_.put_meta(meta::disk_key(kDisk), value);
  }
  EXPECT_EQ(machine_.node().session_count(), 0U);
}

/// Large values reach the bound in bytes long before the one in events.
TEST_F(ServiceMeta, EventsOfAClientThatDoesNotReadAreBoundedInBytes) {
  Client other(machine_, "other");
  other.greet();
  pb::MetaWatchRequest request;
  request.set_prefix("/disk/");
  ASSERT_EQ(client_->error_of(wire::Opcode::meta_watch, request), Errc::ok);
  ASSERT_EQ(other.error_of(wire::Opcode::meta_watch, request), Errc::ok);
  machine_.network.hold(machine_.process(), client_->process());
  const std::string value = disk_value(std::string(60000, 'x'));
  std::size_t puts = 0;
  while (puts < 1000 && machine_.node().session_count() > 1) {
    machine_.put_meta(meta::disk_key(kDisk), value);
    machine_.world.run_for(std::chrono::milliseconds(10));
    ++puts;
  }
  EXPECT_EQ(machine_.node().session_count(), 1U);
  EXPECT_GT(puts, 200U);
  EXPECT_LT(puts, 400U);
  EXPECT_FALSE(other.is_ended());
  EXPECT_EQ(other.events().size(), puts);
}

TEST_F(ServiceMeta, BackupHasEverything) {
  ASSERT_EQ(put_error("/name/a", meta::encode_id(kDisk)), Errc::ok);
  const auto reply =
      client_->call<pb::MetaBackupReply>(wire::Opcode::meta_backup, pb::MetaBackupRequest());
  ASSERT_TRUE(reply);
  std::vector<std::string> keys;
  for (const auto& entry : reply->entries()) keys.push_back(entry.key());
  EXPECT_EQ(keys.size(), 4U);  // name, counter, node, store
  EXPECT_EQ(std::count(keys.begin(), keys.end(), "/name/a"), 1);
}

TEST_F(ServiceMeta, I9_unknown_outcome_stays_unknown) {
  machine_.node_meta().plan(meta::MemFault::lost_answer);
  EXPECT_EQ(put_error("/name/a", meta::encode_id(kDisk)), Errc::timed_out);
  EXPECT_TRUE(machine_.get_meta("/name/a"));
  machine_.node_meta().plan(meta::MemFault::refused);
  pb::MetaGetRequest request;
  request.set_key("/name/a");
  EXPECT_EQ(client_->error_of(wire::Opcode::meta_get, request), Errc::unavailable);
}

// ---- what records name ----

class ServiceNames : public ServiceMeta {
 protected:
  void SetUp() override {
    ServiceMeta::SetUp();
    disk_.make();
    disk_.write(0, 8, 1);
    disk_.roll();
    disk_.write(0, 2, 50);
    disk_.checkpoint();
    disk_.snapshot("s");
  }
  Errc put_disk(const meta::pb::DiskRecord& record) {
    return put_error(meta::disk_key(kDisk), meta::encode(record));
  }
  static meta::pb::SnapshotRecord snapshot_of(const meta::pb::View& view) {
    meta::pb::SnapshotRecord snapshot;
    *snapshot.mutable_id() = meta::to_pb(SnapshotId{3, 3});
    *snapshot.mutable_disk() = meta::to_pb(kDisk);
    snapshot.set_name("t");
    *snapshot.mutable_view() = view;
    return snapshot;
  }
  TestDisk disk_{machine_, kDisk, "d"};
};

TEST_F(ServiceNames, RecordsNameWhatIsThere) {
  const meta::pb::DiskRecord good = disk_.record();
  EXPECT_EQ(put_disk(good), Errc::ok);
  const std::uint64_t missing = KeyId::kEnd - 1;
  const Address nowhere = *Address::make(*KeyId::make(missing), BlockIndex{0});
  meta::pb::DiskRecord bad = good;
  bad.mutable_base()->set_top_page(nowhere.raw());
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  bad = good;
  bad.mutable_base()->set_top_page(disk_.top().plus(1000).raw());
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  bad = good;
  bad.mutable_log_from()->set_key(missing);
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  bad = good;
  bad.mutable_log_from()->set_log_offset(limits::kGiB);
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  bad = good;
  bad.mutable_open_key()->set_key(missing);
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  bad = good;
  bad.mutable_last_sealed()->set_key(missing);
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  bad = good;
  bad.mutable_last_sealed_length()->set_log_bytes(limits::kGiB);
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  bad = good;
  *bad.mutable_log_end() = good.log_from();
  bad.mutable_log_end()->set_log_offset(limits::kGiB);
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  TestDisk other(machine_, DiskId{7, 8}, "other");
  other.make();
  other.write(0, 1, 1);
  bad = good;
  bad.mutable_open_key()->set_key(other.open_key().value());
  EXPECT_EQ(put_disk(bad), Errc::invalid_argument);
  EXPECT_EQ(get(meta::disk_key(kDisk)).entry().value(), meta::encode(good));
}

TEST_F(ServiceNames, SnapshotsNameWhatIsThere) {
  disk_.write(1, 1, 80);
  const meta::pb::View good = disk_.view();
  const std::string key = meta::snap_key(kDisk, "t");
  ASSERT_EQ(good.parts_size(), 1);
  meta::pb::View bad = good;
  bad.mutable_parts(0)->mutable_to()->set_key(KeyId::kEnd - 1);
  EXPECT_EQ(put_error(key, meta::encode(snapshot_of(bad))), Errc::invalid_argument);
  bad = good;
  bad.mutable_parts(0)->mutable_to()->set_log_offset(limits::kGiB);
  EXPECT_EQ(put_error(key, meta::encode(snapshot_of(bad))), Errc::invalid_argument);
  bad = good;
  bad.mutable_parts(0)->clear_from();
  EXPECT_EQ(put_error(key, meta::encode(snapshot_of(bad))), Errc::invalid_argument);
  bad = good;
  bad.set_top_page(good.top_page() | 1);  // a slot
  EXPECT_EQ(put_error(key, meta::encode(snapshot_of(bad))), Errc::invalid_argument);
  EXPECT_EQ(put_error(key, meta::encode(snapshot_of(good))), Errc::ok);
}

TEST_F(ServiceNames, ADiskThatLostAKeyIsStillTakenOverAndRemoved) {
  meta::pb::DiskRecord record = disk_.record();
  ASSERT_TRUE(machine_.run(machine_.node().store().remove(disk_.keys().front())));
  record.set_epoch(record.epoch() + 1);
  EXPECT_EQ(put_disk(record), Errc::ok);
  EXPECT_EQ(put_error(meta::trash_key(kDisk), meta::encode(record)), Errc::ok);
  machine_.remove_meta(meta::disk_key(kDisk));
  EXPECT_EQ(put_disk(record), Errc::ok);  // out of the trash again
  machine_.remove_meta(meta::trash_key(kDisk));
  machine_.remove_meta(meta::disk_key(kDisk));
  EXPECT_EQ(put_disk(record), Errc::invalid_argument);
}

}  // namespace
}  // namespace vmstore::storaged::test
