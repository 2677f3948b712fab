// SPDX-License-Identifier: Apache-2.0
// The node as a whole: status, metrics, collections over the wire and by themselves, a full device.
#include "storaged/node.h"

#include <gtest/gtest.h>

#include "base/limits.h"
#include "meta/records.h"
#include "meta/schema.h"
#include "tests/unit/storaged_service/gc_disk.h"

namespace vmstore::storaged::test {
namespace {

pb::NodeStatusReply status_of(Client& client) {
  const auto reply =
      client.call<pb::NodeStatusReply>(wire::Opcode::node_status, pb::NodeStatusRequest());
  EXPECT_TRUE(reply);
  return reply ? *reply : pb::NodeStatusReply();
}

TEST(Node, StatusTellsSpaceKeysAndSessions) {
  Machine machine;
  machine.start_well();
  TestDisk disk(machine, kDisk, "d");
  disk.make();
  disk.write(0, 8, 1);
  Client client(machine, "client");
  client.greet();
  const auto status = status_of(client);
  EXPECT_EQ(status.key_count(), 1U);
  EXPECT_EQ(status.session_count(), 1U);
  EXPECT_GE(status.used_bytes(), 8 * kBlockBytes);
  EXPECT_GT(status.total_bytes(), status.used_bytes());
  EXPECT_EQ(status.version(), "test");
  EXPECT_EQ(status.data_folder(), "/data");
  EXPECT_TRUE(status.direct_io());
  EXPECT_EQ(status.warnings_size(), 0);
}

TEST(Node, MissingDirectIoIsNoted) {
  Machine machine;
  machine.files.set_direct(false);
  machine.start_well();
  Client client(machine, "client");
  client.greet();
  const auto status = status_of(client);
  EXPECT_FALSE(status.direct_io());
  EXPECT_EQ(status.warnings_size(), 1);
}

TEST(Node, MetricsHaveEveryFamilyOnce) {
  Machine machine;
  machine.start_well();
  const std::string text = machine.run(machine.node().metrics_text());
  EXPECT_NE(text.find("vmstore_up 1\n"), std::string::npos);
  EXPECT_NE(text.find("vmstore_gc_rounds_total 0\n"), std::string::npos);
  std::set<std::string> families;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("# TYPE ")) continue;
    const std::string name = line.substr(7, line.find(' ', 7) - 7);
    EXPECT_TRUE(families.insert(name).second) << name;
    EXPECT_TRUE(name.starts_with("vmstore_")) << name;
    EXPECT_EQ(name.ends_with("_total"), line.ends_with(" counter")) << name;
  }
  EXPECT_GT(families.size(), 20U);
}

TEST(Node, CollectionRunsOverTheWire) {
  Machine machine;
  machine.start_well();
  TestDisk disk(machine, kDisk, "d");
  disk.make();
  disk.write(0, 8, 1);
  disk.purge();
  Client client(machine, "client");
  client.greet();
  pb::GcRunRequest request;
  request.set_dry_run(true);
  auto reply = client.call<pb::GcRunReply>(wire::Opcode::gc_run, request);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->keys_deleted(), 1U);
  request.set_dry_run(false);
  reply = client.call<pb::GcRunReply>(wire::Opcode::gc_run, request);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->keys_deleted(), 1U);
  EXPECT_EQ(reply->bytes_freed(), 8 * kBlockBytes);
  EXPECT_EQ(reply->round(), 1U);
  reply = client.call<pb::GcRunReply>(wire::Opcode::gc_run, request);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->keys_deleted(), 0U);
  EXPECT_EQ(reply->round(), 2U);
}

TEST(Node, GarbageUnderPressureIsCollectedByItself) {
  Machine machine;
  machine.options.collect_by_itself = true;
  constexpr std::uint64_t kCapacity = 64 * limits::kMiB;
  machine.files.set_capacity(kCapacity);
  machine.start_well();
  TestDisk disk(machine, kDisk, "d");
  disk.make();
  for (std::uint64_t at = 0; at < 50 * limits::kMiB / kBlockBytes; at += 128) {
    disk.write(at, 128, at);
  }
  disk.purge();
  machine.world.run_for(std::chrono::minutes(2));
  EXPECT_TRUE(machine.node().store().list().empty());
}

// After a restore only the collector stands between what the backup does not name and its end.
TEST(Node, AHeldCollectionBeginsOnlyByHand) {
  Machine machine;
  machine.options.collect_by_itself = true;
  machine.files.set_capacity(64 * limits::kMiB);
  machine.start_well();
  TestDisk disk(machine, kDisk, "d");
  disk.make();
  for (std::uint64_t at = 0; at < 50 * limits::kMiB / kBlockBytes; at += 128) {
    disk.write(at, 128, at);
  }
  ASSERT_TRUE(hold_gc(machine.files));
  disk.purge();
  machine.world.run_for(std::chrono::minutes(2));
  EXPECT_EQ(machine.node().store().list().size(), 1U);
  EXPECT_TRUE(machine.run(machine.node().collect(true)));
  machine.stop();
  machine.start_well();
  machine.world.run_for(std::chrono::minutes(2));
  EXPECT_EQ(machine.node().store().list().size(), 1U);
  EXPECT_NE(machine.run(machine.node().status()).DebugString().find("`vmstore gc`"),
            std::string::npos);
  EXPECT_TRUE(machine.run(machine.node().collect(false)));
  EXPECT_TRUE(machine.node().store().list().empty());
  const auto held = machine.run(machine.node().gc().is_held());
  EXPECT_TRUE(held && !*held);
}

TEST(Node, FullDeviceRefusesAppendsReadsOnAndFrees) {
  Machine machine;
  constexpr std::uint64_t kCapacity = 64 * limits::kMiB;
  machine.files.set_capacity(kCapacity);
  machine.options.reserve_bytes = 4 * limits::kMiB;
  machine.start_well();
  TestDisk gone(machine, DiskId{1, 1}, "gone");
  gone.make();
  for (std::uint64_t at = 0; at < 24 * limits::kMiB / kBlockBytes; at += 128) {
    gone.write(at, 128, at);
  }
  TestDisk disk(machine, DiskId{1, 2}, "kept");
  disk.make();
  disk.write(0, 8, 1);
  // Somebody else takes what is left of the file system.
  const auto space = machine.files.space();
  ASSERT_TRUE(space);
  machine.files.set_capacity(kCapacity - space->free_bytes + limits::kMiB);
  Client client(machine, "client");
  client.greet();
  pb::KeyReserveRequest reserve;
  reserve.set_key(disk.open_key().value());
  reserve.set_token(1);
  reserve.set_data_blocks(16 * limits::kMiB / kBlockBytes);
  EXPECT_EQ(client.error_of(wire::Opcode::key_reserve, reserve), Errc::no_space);
  EXPECT_EQ(disk.check(), "");
  EXPECT_GE(status_of(client).warnings_size(), 1);
  // Freeing needs no space that is not kept for it.
  gone.purge();
  const auto report = machine.run(machine.node().collect(false));
  ASSERT_TRUE(report) << to_string(report.error());
  EXPECT_EQ(report->keys_deleted, 1U);
  EXPECT_EQ(client.error_of(wire::Opcode::key_reserve, reserve), Errc::ok);
}

TEST(Node, NodeWhoseJournalFailedSaysSo) {
  Machine machine;
  machine.start_well();
  TestDisk disk(machine, kDisk, "d");
  disk.make();
  disk.write(0, 8, 1);
  EXPECT_TRUE(machine.node().is_ready());
  sim::FileFault fault;
  fault.path_part = "journal";
  fault.repeat = true;
  machine.files.fail(fault);
  ASSERT_FALSE(machine.run(machine.node().store().fence(disk.open_key(), Epoch(9))));
  machine.files.clear_faults();
  EXPECT_FALSE(machine.node().is_ready());
  Client client(machine, "client");
  client.greet();  // reads go on
  const auto status = status_of(client);
  ASSERT_EQ(status.warnings_size(), 1);
  EXPECT_NE(status.warnings(0).find("takes no changes"), std::string::npos);
  const std::string metrics = machine.run(machine.node().metrics_text());
  EXPECT_NE(metrics.find("vmstore_takes_changes 0\n"), std::string::npos);
}

TEST(Node, NodeWhoseCatalogueFailedSaysSo) {
  class Failed final : public meta::MetaStore {
   public:
    explicit Failed(meta::MetaStore& below) : below_(below) {}
    Task<Result<meta::GetAnswer>> get(std::string key) override {
      return below_.get(std::move(key));
    }
    Task<Result<meta::TxnAnswer>> txn(meta::Txn txn) override { return below_.txn(std::move(txn)); }
    Task<Result<meta::RangeAnswer>> range(meta::RangeRequest request) override {
      return below_.range(std::move(request));
    }
    Task<Result<std::unique_ptr<meta::Watch>>> watch(std::string prefix,
                                                     std::uint64_t from_revision,
                                                     WatchCallback callback) override {
      return below_.watch(std::move(prefix), from_revision, std::move(callback));
    }
    [[nodiscard]] bool takes_changes() const noexcept override { return takes_changes_; }
    bool takes_changes_ = true;

   private:
    meta::MetaStore& below_;
  };
  Machine machine;
  std::shared_ptr<Failed> failed;
  machine.wrap_meta = [&failed](meta::MetaStore& below) -> meta::MetaStore& {
    failed = std::make_shared<Failed>(below);
    return *failed;
  };
  machine.start_well();
  EXPECT_TRUE(machine.node().is_ready());
  failed->takes_changes_ = false;
  EXPECT_FALSE(machine.node().is_ready());
  EXPECT_EQ(machine.run(machine.node().status()).warnings_size(), 1);
  failed->takes_changes_ = true;  // it repairs itself
  EXPECT_TRUE(machine.node().is_ready());
}

TEST(Node, ConnectionsAreServedOnlyWhileItRuns) {
  Machine machine;
  machine.start_well();
  {
    Client client(machine, "client");
    client.greet();
    EXPECT_EQ(machine.node().session_count(), 1U);
  }
  machine.world.run_for(std::chrono::seconds(1));
  EXPECT_EQ(machine.node().session_count(), 0U);
  machine.stop();
  EXPECT_FALSE(machine.runs());
}

}  // namespace
}  // namespace vmstore::storaged::test
