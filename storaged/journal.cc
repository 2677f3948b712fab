// SPDX-License-Identifier: Apache-2.0
#include "storaged/journal.h"

#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "base/log.h"

namespace vmstore::storaged {
namespace {

constexpr std::uint64_t kPrewriteChunk = limits::kMiB;
/// The fixed header, the longest list of previous keys and the rounding to a unit.
constexpr std::uint64_t kGroupOverheadMax = 16 * limits::kKiB;

std::uint64_t group_bytes_max(const RingSpace& space) {
  const std::uint64_t quarter = space.capacity() / 4 / kJournalUnitBytes * kJournalUnitBytes;
  return std::min(limits::kJournalGroupBytesMax, quarter);
}

}  // namespace

Result<void> Journal::create(Files& files, std::uint64_t bytes, Incarnation incarnation) {
  if (bytes < kBytesMin || bytes % kJournalUnitBytes != 0) return Errc::invalid_argument;
  OpenOptions options;
  options.create = true;
  {
    VMS_TRY(const auto file, files.open(kNewPath, options));
    VMS_CHECK(file->truncate(0));
    VMS_CHECK(file->allocate(0, bytes));
    AlignedBuffer zeros(kPrewriteChunk);
    std::fill(zeros.bytes().begin(), zeros.bytes().end(), std::byte{0});
    for (std::uint64_t offset = 0; offset < bytes;) {
      const auto part = std::min(bytes - offset, kPrewriteChunk);
      VMS_CHECK(file->write(offset, zeros.bytes().first(part)));
      offset += part;
    }
    RingHead head;
    head.generation = 1;
    head.incarnation = incarnation;
    head.file_bytes = bytes;
    head.clean = true;
    VMS_CHECK(file->write(kJournalUnitBytes, encode_ring_head(head)));
    head.generation = 2;
    VMS_CHECK(file->write(0, encode_ring_head(head)));
    VMS_CHECK(file->sync());
  }
  VMS_FAULT("journal.before_create");
  VMS_CHECK(files.rename(kNewPath, kPath));
  VMS_CHECK(files.sync_folder(""));
  VMS_FAULT("journal.after_create");
  return success();
}

Result<std::unique_ptr<Journal>> Journal::open(Files& files) {
  OpenOptions options;
  options.direct_sync = true;
  VMS_TRY(auto file, files.open(kPath, options));
  VMS_CHECK(file->lock());
  std::unique_ptr<Journal> journal(new Journal(std::move(file)));
  VMS_TRY(const auto size, journal->file_->size());
  AlignedBuffer heads(kRingStart);
  VMS_TRY(const auto got, journal->file_->read(0, heads.bytes()));
  if (got != heads.size()) return Errc::corrupt;
  VMS_TRY(const auto chosen, choose_ring_head(heads.bytes()));
  if (chosen.head.file_bytes != size || size < kBytesMin) {
    VMS_LOG(error,
            "journal",
            "the ring has " << size << " bytes, its head says " << chosen.head.file_bytes);
    return Errc::corrupt;
  }
  journal->head_ = chosen.head;
  journal->other_head_bad_ = chosen.other_bad;
  journal->space_ = RingSpace(kRingStart, size, chosen.head.tail_offset);
  return journal;
}

Result<JournalContent> Journal::scan() {
  if (head_.clean && !other_head_bad_) {
    JournalContent content;
    content.end_offset = head_.tail_offset;
    content.next_number = head_.tail_number;
    return content;
  }
  // A process that was killed may have left groups in the device's cache: what is believed now must
  // still be there after a power cut, because key files will be made to say so.
  VMS_CHECK(file_->sync());
  JournalScan scan(*file_, head_);
  return scan.run();
}

Result<void> Journal::begin(const JournalContent& content, Incarnation incarnation) {
  RingHead head = head_;
  ++head.generation;
  head.incarnation = incarnation;
  head.tail_offset = content.end_offset;
  head.tail_number = content.next_number;
  head.clean = false;
  VMS_FAULT("journal.before_begin");
  VMS_CHECK(write_head(head));
  VMS_FAULT("journal.after_begin");
  head_ = head;
  next_number_ = content.next_number;
  space_ = RingSpace(kRingStart, head.file_bytes, content.end_offset);
  buffer_ = AlignedBuffer(group_bytes_max(space_));
  return success();
}

std::uint64_t Journal::next_group_bytes(std::span<const OutgoingEntry> entries) const noexcept {
  return group_bytes(entries, previous_keys_.size());
}

std::uint64_t Journal::entries_bytes_max() const noexcept {
  const std::uint64_t units = group_bytes_max(space_) / kJournalUnitBytes;
  return units * kUnitBodyBytes - kGroupOverheadMax;
}

GroupPlace Journal::prepare(std::span<const OutgoingEntry> entries, std::uint64_t offset) {
  const GroupPlace place{offset, next_number_, next_group_bytes(entries)};
  VMS_ASSERT(place.bytes <= buffer_.size());
  space_.take(place);
  encode_group(place.number, previous_keys_, entries, buffer_.bytes().first(place.bytes));
  previous_keys_.clear();
  for (const OutgoingEntry& entry : entries) {
    const KeyId key = entry.fields.key;
    if (previous_keys_.empty() || previous_keys_.back() != key) previous_keys_.push_back(key);
  }
  ++next_number_;
  return place;
}

Result<void> Journal::write_prepared(const GroupPlace& place) {
  VMS_FAULT("journal.before_write");
  VMS_CHECK(file_->write(place.offset, buffer_.bytes().first(place.bytes)));
  VMS_FAULT("journal.after_write");
  return success();
}

RingHead Journal::next_head(std::uint64_t released_number, bool clean) const {
  VMS_ASSERT(released_number + 1 >= head_.tail_number);
  RingHead head = head_;
  ++head.generation;
  head.tail_offset = space_.tail_after(released_number);
  head.tail_number = released_number + 1;
  head.clean = clean;
  return head;
}

Result<void> Journal::write_head(const RingHead& head) {
  const auto unit = encode_ring_head(head);
  std::copy(unit.begin(), unit.end(), head_buffer_.bytes().begin());
  return file_->write((head.generation % 2) * kJournalUnitBytes, head_buffer_.bytes());
}

void Journal::head_written(const RingHead& head) {
  space_.release(head.tail_number - 1);
  head_ = head;
}

}  // namespace vmstore::storaged
