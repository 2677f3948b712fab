// SPDX-License-Identifier: Apache-2.0
#include "meta/restore.h"

#include <algorithm>
#include <utility>

#include "meta/schema.h"

namespace vmstore::meta {
namespace {

constexpr std::uint64_t kEpochStep = std::uint64_t{1} << 20;
constexpr std::uint64_t kKeyStep = std::uint64_t{1} << 24;  // of 2^33: keys made since, and gone
constexpr unsigned kRebuildBits = 32;         // as in rebuild.cc: rebuilds are counted above them
constexpr std::uint64_t kRebuildStep = 1024;  // rebuilds since the backup

bool is_disk(const BackupEntry& entry) {
  return entry.key.starts_with(kDiskPrefix) || entry.key.starts_with(kTrashPrefix);
}
bool is_snapshot(const BackupEntry& entry) {
  return entry.key.starts_with(kSnapPrefix) || entry.key.starts_with(kTrashSnapPrefix);
}

class Named {
 public:
  explicit Named(std::map<KeyId, std::string>& keys) : keys_(keys) {}
  void add(std::uint64_t number, const std::string& who) {
    if (number != 0) keys_.emplace(*KeyId::make(number), who);
  }
  void add(const pb::View& view, const std::string& who) {
    add(Address::from_raw(view.top_page()).key().value(), who);
    for (const pb::LogPart& part : view.parts()) {
      add(part.from().key(), who);
      add(part.to().key(), who);
    }
  }

 private:
  std::map<KeyId, std::string>& keys_;
};

}  // namespace

Result<std::map<KeyId, std::string>> keys_named(const std::vector<BackupEntry>& entries) {
  std::map<KeyId, std::string> keys;
  Named named(keys);
  for (const BackupEntry& entry : entries) {
    if (is_disk(entry)) {
      VMS_TRY(const auto disk, decode<pb::DiskRecord>(entry.value));
      const std::string who =
          "disk " + (disk.trashed_name().empty() ? disk.name() : disk.trashed_name());
      named.add(disk.base(), who);
      named.add(disk.log_from().key(), who);
      named.add(disk.open_key().key(), who);
      // Else the one before it, which may have been collected since its records became pages.
      const bool ends_sealed = disk.open_key().key() == 0 && disk.log_from().key() != 0;
      if (ends_sealed) named.add(disk.last_sealed().key(), who);
    }
    if (is_snapshot(entry)) {
      VMS_TRY(const auto snapshot, decode<pb::SnapshotRecord>(entry.value));
      named.add(snapshot.view(), "snapshot " + snapshot.name());
    }
  }
  return keys;
}

Result<void> make_current(std::vector<BackupEntry>& entries) {
  for (BackupEntry& entry : entries) {
    if (!is_disk(entry)) continue;
    VMS_TRY(auto disk, decode<pb::DiskRecord>(entry.value));
    disk.set_epoch(disk.epoch() + kEpochStep);
    if (disk.state() == pb::DiskRecord::released && disk.open_key().key() != 0) {
      disk.set_state(pb::DiskRecord::recovering);
    }
    // Of a disk that is recovered the end is found; of another it is that of the last sealed key.
    disk.clear_log_end();
    // Not an end of anything that is read, and it may have been collected since.
    if (disk.open_key().key() != 0 || disk.log_from().key() == 0) {
      disk.clear_last_sealed();
      disk.clear_last_sealed_length();
    }
    disk.clear_key_range_first();
    disk.clear_key_range_next();
    if (disk.has_writer()) disk.mutable_writer()->set_has_batch_file(false);
    entry.value = encode(disk);
  }
  return success();
}

Result<Image> plan_restore(const Backup& backup, const RestoreTarget& target) {
  std::vector<BackupEntry> entries = backup.entries;
  VMS_CHECK(make_current(entries));
  Image image;
  image.revision = ((backup.revision >> kRebuildBits) + kRebuildStep) << kRebuildBits;
  const auto put = [&image](const std::string& key, std::string value) {
    Entry& entry = image.entries[key];
    entry.key = key;
    entry.value = std::move(value);
    entry.mod_revision = image.revision;
  };
  for (BackupEntry& entry : entries) put(entry.key, std::move(entry.value));

  const auto store_entry = image.entries.find(std::string(kStoreKey));
  const auto counter_entry = image.entries.find(std::string(kKeyCounterKey));
  if (store_entry == image.entries.end() || counter_entry == image.entries.end()) {
    return Errc::corrupt;
  }
  VMS_TRY(auto store, decode<pb::StoreRecord>(store_entry->second.value));
  if (from_pb<StoreId>(store.id()) != target.store) return Errc::foreign_store;
  const std::uint64_t rebuilds = (store.catalogue() >> kRebuildBits) + kRebuildStep;
  store.set_catalogue(rebuilds << kRebuildBits | target.salt);
  put(std::string(kStoreKey), encode(store));

  VMS_TRY(auto counter, decode<pb::KeyCounter>(counter_entry->second.value));
  counter.set_next(std::max(counter.next(), target.newest_key.value() + 1) + kKeyStep);
  if (counter.next() >= KeyId::kEnd) return Errc::no_space;
  put(std::string(kKeyCounterKey), encode(counter));

  const NodeId node = from_pb<NodeId>(target.node.id());
  put(std::string(kNodePrefix) + node.hex(), encode(target.node));
  return image;
}

}  // namespace vmstore::meta
