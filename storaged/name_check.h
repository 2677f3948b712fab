// SPDX-License-Identifier: Apache-2.0
// What clients' pages, roots, key headers and catalogue records may name, as far as the node can
// tell at once, from memory. A collection reads all of it, and ends at the first thing that is not
// there: without these checks one client could stop the collection of the whole store.
//
// Invariants: refused is only what certainly cannot be there. A key that was drawn and is not there
// may be lost, a sealed key may have been cut by who accepted the loss (repair.h): pages that name
// those are let pass, or the rest of such a disk could not be written any more. A record that
// begins to name them is refused; one that did before is not. Where there are other nodes, what is
// not here may be with them: only what this node's own copy contradicts is refused then.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "meta/meta_store.h"
#include "meta/records.pb.h"
#include "snapshot/page.h"
#include "storaged/block_store.h"
#include "wire/frame.h"
#include "wire/record.h"

namespace vmstore::storaged {

/// THREADS: the scheduler's.
class NameCheck {
 public:
  /// `is_alone`: whether this node is the only one of its store now.
  NameCheck(BlockStore& store, meta::MetaStore& meta, std::function<bool()> is_alone)
      : store_(store), meta_(meta), is_alone_(std::move(is_alone)) {}

  /// Keys below `next` may have been drawn. Only grows.
  void note_keys_drawn(std::uint64_t next) noexcept;

  /// Of a record that is to be appended: pages decode, their entries and a root's top page name
  /// drawn keys and blocks that were written before; pages of the same record lie where their
  /// labels say. `corrupt`, `unsupported`: a page that does not decode; else `invalid_argument`.
  [[nodiscard]] Result<void> check_append(const wire::RecordHeader& header,
                                          const wire::Payload& payload) const;
  /// Of a key that is to be made: the predecessor is an older key of the same disk.
  [[nodiscard]] Result<void> check_key_header(const wire::RecordHeader& header) const;

  /// What the record names is there, or the catalogue has an entry of this disk (or snapshot), in
  /// the trash or not, that names the same. `invalid_argument` otherwise.
  [[nodiscard]] Task<Result<void>> check_disk(meta::pb::DiskRecord record);
  [[nodiscard]] Task<Result<void>> check_snapshot(meta::pb::SnapshotRecord record);

 private:
  [[nodiscard]] std::uint64_t blocks_of(KeyId key) const;
  [[nodiscard]] const char* find_fault(const wire::RecordHeader& header,
                                       std::size_t place,
                                       const snapshot::Page& page) const;
  [[nodiscard]] Result<void> check_pages(const wire::RecordHeader& header,
                                         const wire::Payload& payload) const;
  [[nodiscard]] bool is_there(Address address) const;
  [[nodiscard]] bool is_there(const meta::pb::Position& position) const;
  [[nodiscard]] bool is_there(const meta::pb::View& view) const;
  [[nodiscard]] bool is_own(std::uint64_t key, DiskId disk) const;
  /// Of each of names_of(): whether it is there.
  [[nodiscard]] std::vector<bool> found(const meta::pb::DiskRecord& record) const;
  [[nodiscard]] std::vector<bool> found(const meta::pb::SnapshotRecord& record) const;
  template <class Record>
  [[nodiscard]] Task<Result<void>> check_record(Record record, std::vector<std::string> places);

  BlockStore& store_;
  meta::MetaStore& meta_;
  std::uint64_t keys_drawn_ = KeyId::kFirst;
  std::function<bool()> is_alone_;
};

/// The entry of `key` as it is now: a get that may be stale, made sure by a compare.
[[nodiscard]] Task<Result<std::optional<meta::Entry>>> read_entry_now(meta::MetaStore& store,
                                                                      std::string key);

}  // namespace vmstore::storaged
