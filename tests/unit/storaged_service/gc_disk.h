// SPDX-License-Identifier: Apache-2.0
// TestDisk: a disk as its owner keeps it, reduced to what garbage collection sees: keys, records,
// index pages, roots, snapshots, clones, private frees. It writes to the node's block store and
// catalogue directly, so that a test can stop between any two steps.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "meta/records.pb.h"
#include "snapshot/index.h"
#include "tests/unit/storaged_service/service_fixture.h"

namespace vmstore::storaged::test {

/// Pages out of the node's block store.
class StorePages final : public snapshot::PageSource {
 public:
  explicit StorePages(Machine& machine) : machine_(machine) {}
  [[nodiscard]] Task<Result<snapshot::PagePtr>> load(Address address) override;

 private:
  Machine& machine_;
};

class TestDisk {
 public:
  /// What each written block holds: lbn to the seed of its bytes.
  using Content = std::map<std::uint64_t, std::uint64_t>;

  TestDisk(Machine& machine, DiskId id, std::string name);

  /// Puts the record into the catalogue. A clone's base is `view`.
  void make();
  void make_clone_of(const TestDisk& parent, const std::string& snapshot);

  /// A key of the store that the disk's record does not name yet.
  KeyId create_key();
  /// Seals the open key, if any, and names `key` (one made by create_key()).
  void name_key(KeyId key);
  void roll() { name_key(create_key()); }
  /// Writes `count` blocks from `lbn` on; the first write makes the first key.
  void write(std::uint64_t lbn, std::uint64_t count, std::uint64_t seed);
  /// Appends index pages, then the root that names them. `named`: the record takes it over, too.
  void checkpoint(bool named = true);
  void append_pages();
  void append_root();
  void name_root();
  /// Frees what was superseded and was written after the newest cut, as an owner may (C8).
  void free_replaced();
  /// The closed view of now.
  [[nodiscard]] meta::pb::View view() const;
  void snapshot(const std::string& name);
  void remove_snapshot(const std::string& name);
  void trash();
  /// Out of the catalogue, trash or not.
  void purge();
  /// A new owner: the epoch rises.
  void take_over();

  /// Everything that the disk, as the catalogue has it, maps can be read and is what was written.
  /// Empty when so, else what is wrong.
  [[nodiscard]] std::string check();
  [[nodiscard]] std::string check_snapshot(const std::string& name);

  [[nodiscard]] DiskId id() const noexcept { return id_; }
  [[nodiscard]] KeyId open_key() const noexcept { return key_; }
  [[nodiscard]] const std::vector<KeyId>& keys() const noexcept { return keys_; }
  [[nodiscard]] Address top() const noexcept { return top_; }
  [[nodiscard]] const Content& content() const noexcept { return content_; }
  meta::pb::DiskRecord& record() noexcept { return record_; }
  void put_record();

 private:
  struct SnapshotState {
    meta::pb::SnapshotRecord record;
    Content content;
  };
  void append(wire::RecordHeader header, const wire::Payload& blocks);
  [[nodiscard]] LogPosition end() const noexcept { return {key_, length_.log_bytes, sequence_}; }
  [[nodiscard]] std::string check_view(const meta::pb::View& view, const Content& content);

  Machine& machine_;
  DiskId id_;
  meta::pb::DiskRecord record_;
  KeyId key_;
  KeyLength length_;
  Sequence sequence_{1};  // of the next record
  std::vector<KeyId> keys_;
  std::map<KeyId, KeyLength> made_;  // created, not named
  snapshot::RunMap overlay_;         // since the newest checkpoint
  Address top_;
  Address next_top_;
  LogPosition replay_from_;
  LogPosition next_replay_from_;
  meta::pb::View base_;  // of a clone before its first checkpoint
  std::vector<Address> replaced_;
  KeyId cut_key_;  // of the newest snapshot: what lies before is not the owner's alone
  BlockIndex cut_block_;
  Content content_;
  std::map<std::string, SnapshotState> snapshots_;
  std::uint64_t next_seed_ = 1;
};

}  // namespace vmstore::storaged::test
