// SPDX-License-Identifier: Apache-2.0
#include "meta/restore.h"

#include <gtest/gtest.h>

#include "meta/schema.h"
#include "tests/support/code_of.h"

namespace vmstore::meta {
namespace {

constexpr StoreId kStore{1, 2};
constexpr DiskId kDisk{3, 4};
constexpr NodeId kNode{5, 6};

pb::DiskRecord released_disk() {
  pb::DiskRecord disk;
  *disk.mutable_id() = to_pb(kDisk);
  disk.set_name("web");
  disk.set_size_bytes(4096);
  disk.set_epoch(7);
  disk.mutable_base()->set_top_page(Address::make(*KeyId::make(20), BlockIndex{3})->raw());
  disk.mutable_log_from()->set_key(21);
  disk.mutable_open_key()->set_key(22);
  disk.mutable_last_sealed()->set_key(19);
  disk.set_key_range_first(22);
  disk.set_key_range_next(1);
  disk.mutable_writer()->set_has_batch_file(true);
  return disk;
}

Backup sample() {
  pb::StoreRecord store;
  *store.mutable_id() = to_pb(kStore);
  store.set_format(kStoreFormat);
  store.set_catalogue(77);
  pb::KeyCounter counter;
  counter.set_next(40);
  pb::SnapshotRecord snapshot;
  *snapshot.mutable_disk() = to_pb(kDisk);
  snapshot.set_name("v1");
  auto* const part = snapshot.mutable_view()->add_parts();
  *part->mutable_disk() = to_pb(kDisk);
  part->mutable_from()->set_key(30);
  part->mutable_to()->set_key(31);
  Backup backup;
  backup.store = kStore.hex();
  backup.revision = 1000;
  backup.entries = {{disk_key(kDisk), encode(released_disk())},
                    {std::string(kKeyCounterKey), encode(counter)},
                    {name_key("web"), encode_id(kDisk)},
                    {snap_key(kDisk, "v1"), encode(snapshot)},
                    {std::string(kStoreKey), encode(store)}};
  return backup;
}

RestoreTarget target() {
  RestoreTarget here;
  here.store = kStore;
  *here.node.mutable_id() = to_pb(kNode);
  here.node.set_start_count(9);
  here.newest_key = *KeyId::make(500);
  here.salt = 5;
  return here;
}

template <class Record>
Record record_of(const Image& image, const std::string& key) {
  const auto found = image.entries.find(key);
  EXPECT_NE(found, image.entries.end()) << key;
  auto decoded = decode<Record>(found == image.entries.end() ? "" : found->second.value);
  EXPECT_TRUE(decoded) << key;
  return decoded ? *decoded : Record();
}

TEST(Restore, NamesTheKeysThatDisksAndSnapshotsNeed) {
  const auto keys = keys_named(sample().entries);
  ASSERT_TRUE(keys);
  std::string listed;
  for (const auto& [key, who] : *keys) listed += std::to_string(key.value()) + " " + who + "\n";
  EXPECT_EQ(listed, "20 disk web\n21 disk web\n22 disk web\n30 snapshot v1\n31 snapshot v1\n");
}

TEST(Restore, ADiskIsRecoveredUnderATokenThatNobodyHad) {
  const auto image = plan_restore(sample(), target());
  ASSERT_TRUE(image);
  const auto disk = record_of<pb::DiskRecord>(*image, disk_key(kDisk));
  EXPECT_EQ(disk.state(), pb::DiskRecord::recovering);
  EXPECT_GT(disk.epoch(), 1'000'000U);
  EXPECT_EQ(disk.key_range_first(), 0U);
  EXPECT_FALSE(disk.writer().has_batch_file());
  EXPECT_EQ(disk.open_key().key(), 22U);
}

// They may have been collected since, without any loss: a node refuses a record that names them.
TEST(Restore, KeysThatNothingNeedsAreNotNamedAnyMore) {
  Backup backup = sample();
  pb::DiskRecord open = released_disk();
  open.mutable_log_end()->set_key(19);
  backup.entries[0].value = encode(open);
  auto image = plan_restore(backup, target());
  ASSERT_TRUE(image);
  auto disk = record_of<pb::DiskRecord>(*image, disk_key(kDisk));
  EXPECT_EQ(disk.last_sealed().key(), 0U);
  EXPECT_EQ(disk.log_end().key(), 0U);
  EXPECT_EQ(disk.log_from().key(), 21U);

  pb::DiskRecord sealed = released_disk();
  sealed.clear_open_key();
  sealed.mutable_last_sealed_length()->set_log_bytes(4096);
  backup.entries[0].value = encode(sealed);
  image = plan_restore(backup, target());
  ASSERT_TRUE(image);
  disk = record_of<pb::DiskRecord>(*image, disk_key(kDisk));
  EXPECT_EQ(disk.last_sealed().key(), 19U);  // where its log ends
  EXPECT_EQ(disk.last_sealed_length().log_bytes(), 4096U);
}

TEST(Restore, ADiskThatNobodyEverWroteStaysReleased) {
  Backup backup = sample();
  pb::DiskRecord disk = released_disk();
  disk.clear_open_key();
  disk.clear_log_from();
  backup.entries[0].value = encode(disk);
  const auto image = plan_restore(backup, target());
  ASSERT_TRUE(image);
  const auto restored = record_of<pb::DiskRecord>(*image, disk_key(kDisk));
  EXPECT_EQ(restored.state(), pb::DiskRecord::released);
}

TEST(Restore, G2_no_key_number_is_given_out_twice) {
  const auto image = plan_restore(sample(), target());
  ASSERT_TRUE(image);
  EXPECT_GT(record_of<pb::KeyCounter>(*image, std::string(kKeyCounterKey)).next(), 1'000'000U);
}

TEST(Restore, TheCatalogueIsAnotherOneAtARevisionAboveTheLostOne) {
  const auto image = plan_restore(sample(), target());
  ASSERT_TRUE(image);
  EXPECT_GT(image->revision, std::uint64_t{1} << 32);
  for (const auto& [key, entry] : image->entries) EXPECT_EQ(entry.mod_revision, image->revision);
  const auto store = record_of<pb::StoreRecord>(*image, std::string(kStoreKey));
  EXPECT_NE(store.catalogue(), 77U);
  EXPECT_EQ(store.catalogue() & 0xffffffffU, 5U);
  const auto node = record_of<pb::NodeRecord>(*image, std::string(kNodePrefix) + kNode.hex());
  EXPECT_EQ(node.start_count(), 9U);
}

TEST(Restore, AnotherStoresBackupIsForeign) {
  RestoreTarget other = target();
  other.store = StoreId{1, 3};
  EXPECT_EQ(code_of(plan_restore(sample(), other)), Errc::foreign_store);
}

TEST(Restore, ABackupWithoutStoreOrCounterIsCorrupt) {
  for (const std::size_t missing : {std::size_t{1}, std::size_t{4}}) {
    Backup backup = sample();
    backup.entries.erase(backup.entries.begin() + static_cast<std::ptrdiff_t>(missing));
    EXPECT_EQ(code_of(plan_restore(backup, target())), Errc::corrupt) << missing;
  }
}

TEST(Restore, ARecordThatCannotBeReadIsCorrupt) {
  Backup backup = sample();
  backup.entries[0].value = "?";
  EXPECT_EQ(code_of(plan_restore(backup, target())), Errc::corrupt);
  EXPECT_EQ(code_of(keys_named(backup.entries)), Errc::corrupt);
}

}  // namespace
}  // namespace vmstore::meta
