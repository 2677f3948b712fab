// SPDX-License-Identifier: Apache-2.0
#include "storaged/name_check.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::storaged {
namespace {

constexpr int kReadAttempts = 8;

/// Where a page's children belong.
Lbn first_below(const wire::PageLabel& parent, std::size_t entry) {
  return Lbn(parent.first_lbn.value + entry * snapshot::blocks_per_entry(parent.level));
}

bool is_child(const wire::PageLabel& child, const wire::PageLabel& parent, std::size_t entry) {
  return child.level + 1U == parent.level && child.first_lbn == first_below(parent, entry);
}

/// What the record names, each part as bytes.
std::vector<std::string> names_of(const meta::pb::DiskRecord& record) {
  return {
      record.base().SerializeAsString(),
      record.log_from().SerializeAsString(),
      record.log_end().SerializeAsString(),
      std::to_string(record.open_key().key()),
      std::to_string(record.last_sealed().key()) + record.last_sealed_length().SerializeAsString()};
}

std::vector<std::string> names_of(const meta::pb::SnapshotRecord& record) {
  return {record.view().SerializeAsString()};
}

}  // namespace

Task<Result<std::optional<meta::Entry>>> read_entry_now(meta::MetaStore& store, std::string key) {
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    VMS_CO_TRY(auto found, co_await store.get(key));
    meta::Txn txn;
    txn.compares.push_back(meta::Compare{key, false});
    if (found.entry) txn.compares.front().what = found.entry->mod_revision;
    VMS_CO_TRY(const auto outcome, co_await store.txn(std::move(txn)));
    if (outcome.held) co_return std::move(found.entry);
  }
  co_return Errc::unavailable;
}

void NameCheck::note_keys_drawn(std::uint64_t next) noexcept {
  keys_drawn_ = std::max(keys_drawn_, next);
}

// ---- what is appended ----

/// Blocks that may be in the key, now or later.
std::uint64_t NameCheck::blocks_of(KeyId key) const {
  if (!key.is_usable() || (key.value() >= keys_drawn_ && is_alone_())) return 0;
  const auto state = store_.info(key);
  if (!state || state->sealed || state->damaged) return BlockIndex::kEnd;
  return state->length.blocks.value;
}

/// `place`: of the page in the record.
const char* NameCheck::find_fault(const wire::RecordHeader& header,
                                  std::size_t place,
                                  const snapshot::Page& page) const {
  const std::uint64_t begin = header.data_offset.value;
  KeyId key;  // neighbours mostly lie in one
  std::uint64_t blocks = 0;
  for (std::size_t i = 0; i < snapshot::kPageEntries; ++i) {
    const Address entry = page.entries[i];
    if (entry.is_unmapped()) continue;
    const std::uint64_t block = entry.block().value;
    if (entry.key() != key) {
      key = entry.key();
      blocks = key == header.key ? begin : blocks_of(key);
    }
    if (block < blocks) continue;
    if (key != header.key) return "names what cannot be there";
    const bool in_place =
        block - begin < place && is_child(header.pages[block - begin], header.pages[place], i);
    if (!in_place) return "names what is no child of it";
  }
  return nullptr;
}

Result<void> NameCheck::check_pages(const wire::RecordHeader& header,
                                    const wire::Payload& payload) const {
  std::size_t place = 0;
  for (const ByteSpan piece : payload.pieces()) {
    if (piece.size() % kBlockBytes != 0) return Errc::invalid_argument;
    for (std::size_t at = 0; at < piece.size(); at += kBlockBytes, ++place) {
      const auto page = snapshot::decode_page(piece.subspan(at, kBlockBytes));
      const char* const fault = page ? find_fault(header, place, *page) : "does not decode";
      if (fault == nullptr) continue;
      VMS_LOG(warning,
              "storaged",
              "disk " << header.disk.hex() << ": page " << place << " of record "
                      << header.sequence.value << " for key " << header.key.hex() << ' ' << fault);
      return page ? Error(Errc::invalid_argument) : page.error();
    }
  }
  return success();
}

Result<void> NameCheck::check_append(const wire::RecordHeader& header,
                                     const wire::Payload& payload) const {
  if (header.kind == wire::RecordKind::pages) return check_pages(header, payload);
  if (header.kind != wire::RecordKind::root || header.top_page.is_unmapped()) return success();
  const Address top = header.top_page;
  const std::uint64_t blocks =
      top.key() == header.key ? header.data_offset.value : blocks_of(top.key());
  if (top.slot() == 0 && top.block().value < blocks) return success();
  VMS_LOG(warning,
          "storaged",
          "disk " << header.disk.hex() << ": the root of record " << header.sequence.value
                  << " for key " << header.key.hex() << " names what cannot be there");
  return Errc::invalid_argument;
}

Result<void> NameCheck::check_key_header(const wire::RecordHeader& header) const {
  if (header.predecessor.is_none()) return success();
  // Keys are drawn in order, so the log's keys are in order, too: it has no circle.
  if (header.predecessor >= header.key) return Errc::invalid_argument;
  const auto before = store_.info(header.predecessor);
  if (before && before->disk != header.disk) return Errc::invalid_argument;
  return success();
}

// ---- what the catalogue is told ----

bool NameCheck::is_there(Address address) const {
  if (address.is_unmapped()) return true;
  if (address.slot() != 0) return false;
  const auto state = store_.info(address.key());
  if (!is_alone_()) return true;  // with another node, or this copy is behind
  return state && (state->damaged || address.block() < state->length.blocks);
}

bool NameCheck::is_there(const meta::pb::Position& position) const {
  if (position.key() == 0) return true;
  const auto key = KeyId::make(position.key());
  if (!key) return false;
  const auto state = store_.info(*key);
  if (!is_alone_()) return true;
  return state && (state->damaged || position.log_offset() <= state->length.log_bytes);
}

bool NameCheck::is_there(const meta::pb::View& view) const {
  const bool parts = std::all_of(view.parts().begin(), view.parts().end(), [this](const auto& p) {
    return (p.from().key() == 0) == (p.to().key() == 0) && is_there(p.from()) && is_there(p.to());
  });
  return parts && is_there(Address::from_raw(view.top_page()));
}

bool NameCheck::is_own(std::uint64_t number, DiskId disk) const {
  if (number == 0) return true;
  const auto key = KeyId::make(number);
  if (!key) return false;
  const auto state = store_.info(*key);
  if (!state) return !is_alone_();
  return state->disk == disk;
}

std::vector<bool> NameCheck::found(const meta::pb::DiskRecord& record) const {
  const auto disk = meta::from_pb<DiskId>(record.id());
  meta::pb::Position sealed;
  sealed.set_key(record.last_sealed().key());
  sealed.set_log_offset(record.last_sealed_length().log_bytes());
  return {is_there(record.base()),
          is_there(record.log_from()) && is_own(record.log_from().key(), disk),
          is_there(record.log_end()) && is_own(record.log_end().key(), disk),
          is_own(record.open_key().key(), disk),
          is_there(sealed) && is_own(sealed.key(), disk)};
}

std::vector<bool> NameCheck::found(const meta::pb::SnapshotRecord& record) const {
  return {is_there(record.view())};
}

template <class Record>
Task<Result<void>> NameCheck::check_record(Record record, std::vector<std::string> places) {
  const std::vector<bool> there = found(record);
  if (std::find(there.begin(), there.end(), false) == there.end()) co_return success();
  const std::vector<std::string> names = names_of(record);
  for (const std::string& place : places) {
    VMS_CO_TRY(const auto entry, co_await read_entry_now(meta_, place));
    if (!entry) continue;
    const auto known = meta::decode<Record>(entry->value);
    if (!known) continue;
    const std::vector<std::string> named = names_of(*known);
    bool fits = true;
    for (std::size_t i = 0; i < names.size(); ++i) {
      fits = fits && (there[i] || names[i] == named[i]);
    }
    if (fits) co_return success();
  }
  VMS_LOG(warning, "storaged", places.front() << " would name what is not there: refused");
  co_return Errc::invalid_argument;
}

Task<Result<void>> NameCheck::check_disk(meta::pb::DiskRecord record) {
  const auto disk = meta::from_pb<DiskId>(record.id());
  std::vector<std::string> places;
  places.push_back(meta::disk_key(disk));
  places.push_back(meta::trash_key(disk));
  return check_record(std::move(record), std::move(places));
}

Task<Result<void>> NameCheck::check_snapshot(meta::pb::SnapshotRecord record) {
  const auto disk = meta::from_pb<DiskId>(record.disk());
  std::vector<std::string> places;
  places.push_back(meta::snap_key(disk, record.name()));
  places.push_back(meta::trash_snap_prefix(disk) + record.name());
  return check_record(std::move(record), std::move(places));
}

}  // namespace vmstore::storaged
