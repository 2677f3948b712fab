// SPDX-License-Identifier: Apache-2.0
// The order of stores, and why a kill at any instruction is harmless.
//
// A process that is killed stops between two instructions; every store before that point is in the
// file, none after it is. Threads stop at points of their own, but whoever holds the owner's lock
// has seen all stores made under it before. So only the order in the program counts, and the
// compiler is kept from changing it: publish_word() is a release store with a compiler barrier
// behind it. (Kill points are the gaps between the lines.)
//
//   write:   1 copy data into slots that no published entry names
//            2 store the entries, at positions >= published
//            3 publish: store `published`                          [one store of 8 bytes]
//            4 free what was superseded; acknowledge
//     Before 3 the scan stops below the new entries: the write never happened, and it was not
//     acknowledged. From 3 on data and entries are complete. An entry of position p overwrites the
//     one of p - 16384, which is released: can_publish() sees to that. In 1 no byte that a scan
//     could return changes: a slot is free only when no published entry names it, or every such
//     entry is superseded by a later one of the same batch (and the scan returns only the latest),
//     or it is below `released`. This is C1_killed_inside_rewrite: the earlier content of a block
//     stays in its slot until the store that supersedes it. For the same reason a slot of a closed
//     batch is not freed when a later batch writes the block again: the closed batch is a record of
//     its own.
//   close:   the same with one entry.
//   release: 1 the records are committed (the owner)
//            2 store `released`                                    [one store]
//            3 the owner frees the slots, when no reader is inside
//     Before 2 the next session finds batches that the log has too, and leaves them out by their
//     sequence; from 2 on it does not see them. Slots change only after 3.
//   state:   1 store the state beside the current one, with its number and sum
//            2 store the number, whose lowest bit selects the state   [one store]
//   create:  a live file of the same disk and boot: release everything, then state. Else magic = 0
//            (blank), all the rest, magic last.
#include "disk/batch_file.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "disk/batch_file_format.h"

namespace vmstore::disk {
namespace {

using batch_format::kWordBytes;
using batch_format::load_word;
constexpr std::uint32_t kBitsPerWord = 64;

}  // namespace

// ---- entries ----

BatchEntry BatchEntry::make_blocks(Lbn lbn, SlotRun slots) noexcept {
  BatchEntry entry;
  entry.kind = Kind::blocks;
  entry.lbn = lbn;
  entry.blocks = slots.count;
  entry.slot = slots.first;
  return entry;
}

BatchEntry BatchEntry::make_zero(Lbn lbn, std::uint64_t blocks) noexcept {
  BatchEntry entry;
  entry.kind = Kind::zero;
  entry.lbn = lbn;
  entry.blocks = blocks;
  return entry;
}

BatchEntry BatchEntry::make_resize(std::uint64_t disk_bytes) noexcept {
  BatchEntry entry;
  entry.kind = Kind::resize;
  entry.disk_bytes = disk_bytes;
  return entry;
}

BatchEntry BatchEntry::make_close(Sequence sequence, bool flush_mark) noexcept {
  BatchEntry entry;
  entry.kind = Kind::close;
  entry.sequence = sequence;
  entry.flush_mark = flush_mark;
  return entry;
}

// ---- making one ----

BatchFile::BatchFile(MutableBytes memory)
    : memory_(memory),
      users_(kBatchSlots, kFree),
      free_bits_((kBatchSlots + kBitsPerWord - 1) / kBitsPerWord) {
  VMS_ASSERT(memory.size() == limits::kBatchFileBytes);
  VMS_ASSERT(reinterpret_cast<std::uintptr_t>(memory.data()) % kBlockBytes == 0);
  for (std::uint32_t slot = 0; slot < kBatchSlots; ++slot) set_free(slot, true);
}

BatchFile BatchFile::create(MutableBytes memory,
                            const BatchFileIdentity& identity,
                            const BatchFileState& state,
                            StoreHook hook,
                            void* hook_context) {
  BatchFile file(memory);
  file.set_store_hook(hook, hook_context);
  const auto old = scan_batch_file(memory, identity);
  if (old && old->condition == BatchFileCondition::live) {
    file.take_over_counts();
    file.released_ = file.open_begin_ = file.published_;
    file.publish_word(batch_format::kReleasedAt, batch_format::encode_count(file.released_));
    file.store_state(state);
    return file;
  }
  file.publish_word(batch_format::kMagicAt, 0);
  file.store_word(batch_format::kReleasedAt, batch_format::encode_count(0));
  file.store_word(batch_format::kPublishedAt, batch_format::encode_count(0));
  file.store_state(state);
  file.store_header(identity);
  return file;
}

Result<BatchFile> BatchFile::adopt(MutableBytes memory, const BatchFileIdentity& expected) {
  VMS_TRY(const BatchFileContent content, scan_batch_file(memory, expected));
  if (content.condition != BatchFileCondition::live) return Errc::not_found;
  BatchFile file(memory);
  file.take_over_counts();
  file.take_over_slots(content);
  file.state_ = content.state;
  return file;
}

/// REQUIRES: a scan found the file live.
void BatchFile::take_over_counts() noexcept {
  published_ = *batch_format::decode_count(load_word(memory_, batch_format::kPublishedAt));
  released_ = *batch_format::decode_count(load_word(memory_, batch_format::kReleasedAt));
  open_begin_ = released_;
  state_number_ = load_word(memory_, batch_format::kStateNumberAt);
}

/// Every slot that a batch still has belongs to the last entry that names it; the rest is free.
void BatchFile::take_over_slots(const BatchFileContent& content) {
  for (const RecoveredBatch& batch : content.batches) {
    for (const snapshot::Extent& run : batch.extents) {
      if (run.where != snapshot::Where::slot) continue;
      for (std::uint64_t i = 0; i < run.blocks; ++i) {
        set_free(static_cast<std::uint32_t>(run.place + i), false);
      }
    }
    if (!batch.sequence) continue;
    open_begin_ = batch.end_entry;
    last_sequence_ = *batch.sequence;
  }
  for (std::uint64_t position = released_; position < published_; ++position) {
    const BatchEntry entry = entry_at(position);
    if (entry.kind != BatchEntry::Kind::blocks) continue;
    for (std::uint64_t i = 0; i < entry.blocks; ++i) {
      std::uint64_t& user = users_[entry.slot + i];
      if (user != kFree) user = position;
    }
  }
}

void BatchFile::set_store_hook(StoreHook hook, void* context) noexcept {
  hook_ = hook;
  hook_context_ = context;
}

// ---- stores ----

void BatchFile::store_word(std::size_t offset, std::uint64_t value) noexcept {
  auto* const word = reinterpret_cast<std::uint64_t*>(memory_.data() + offset);
  std::atomic_ref<std::uint64_t>(*word).store(value, std::memory_order_relaxed);
  if (hook_ != nullptr) hook_(hook_context_);
}

/// Stores made before it are in the file before it, stores made after it are not.
void BatchFile::publish_word(std::size_t offset, std::uint64_t value) noexcept {
  auto* const word = reinterpret_cast<std::uint64_t*>(memory_.data() + offset);
  std::atomic_ref<std::uint64_t>(*word).store(value, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (hook_ != nullptr) hook_(hook_context_);
}

void BatchFile::store_header(const BatchFileIdentity& identity) noexcept {
  const auto words = batch_format::encode_static(identity);
  for (std::size_t i = 1; i < words.size(); ++i) store_word(i * kWordBytes, words[i]);
  publish_word(batch_format::kMagicAt, words[0]);
}

void BatchFile::store_state(const BatchFileState& state) noexcept {
  const std::uint64_t number = state_number_ + 1;
  const auto words = batch_format::encode_state(state, number);
  const std::size_t place = batch_format::kStateAt[number % 2];
  for (std::size_t i = 0; i < words.size(); ++i) store_word(place + i * kWordBytes, words[i]);
  publish_word(batch_format::kStateNumberAt, number);
  state_number_ = number;
  state_ = state;
}

void BatchFile::store_entry(std::uint64_t position, const BatchEntry& entry) noexcept {
  const auto words = batch_format::encode_entry(entry, position);
  const std::size_t place = batch_format::entry_place(position);
  for (std::size_t i = 0; i < words.size(); ++i) store_word(place + i * kWordBytes, words[i]);
}

/// One of our own entries. REQUIRES: released_ <= position < published_.
BatchEntry BatchFile::entry_at(std::uint64_t position) const noexcept {
  const auto words = batch_format::load_words<std::tuple_size_v<batch_format::EntryWords>>(
      memory_, batch_format::entry_place(position));
  const auto entry = batch_format::decode_entry(words, position);
  VMS_ASSERT(entry.has_value());
  return *entry;
}

// ---- state ----

void BatchFile::name_epoch(Epoch keep, Epoch next) {
  VMS_ASSERT(empty() || state_.names(keep));
  BatchFileState state = state_;
  state.epochs = {keep, next};
  store_state(state);
}

void BatchFile::begin_takeover(Epoch keep, Epoch next, Sequence recovered) {
  VMS_ASSERT(empty() || state_.names(keep));
  BatchFileState state = state_;
  state.epochs = {keep, next};
  if (!state.takeover_base) state.takeover_base = recovered;
  store_state(state);
  takeover_end_ = published_;
  last_sequence_ = recovered;
}

void BatchFile::end_takeover() {
  VMS_ASSERT(takeover_is_done());
  BatchFileState state = state_;
  state.epochs = {state_.epochs[1], Epoch()};
  state.takeover_base.reset();
  store_state(state);
}

void BatchFile::set_guest(const GuestProcess& guest) {
  if (state_.guest == guest) return;
  BatchFileState state = state_;
  state.guest = guest;
  store_state(state);
}

// ---- slots ----

std::uint32_t BatchFile::next_slot(std::uint32_t from, bool is_free) const noexcept {
  for (std::uint32_t word = from / kBitsPerWord; word < free_bits_.size(); ++word) {
    std::uint64_t bits = is_free ? free_bits_[word] : ~free_bits_[word];
    if (word == from / kBitsPerWord) bits &= ~std::uint64_t{0} << (from % kBitsPerWord);
    if (bits == 0) continue;
    const auto found = word * kBitsPerWord + static_cast<std::uint32_t>(std::countr_zero(bits));
    return std::min(found, kBatchSlots);
  }
  return kBatchSlots;
}

void BatchFile::set_free(std::uint32_t slot, bool is_free) noexcept {
  const std::uint64_t bit = std::uint64_t{1} << (slot % kBitsPerWord);
  std::uint64_t& bits = free_bits_[slot / kBitsPerWord];
  VMS_ASSERT(((bits & bit) != 0) != is_free);
  bits ^= bit;
  users_[slot] = is_free ? kFree : kAllocated;
  free_count_ = is_free ? free_count_ + 1 : free_count_ - 1;
}

bool BatchFile::allocate(std::uint32_t count, std::vector<SlotRun>& runs) {
  if (count > free_count_) return false;
  for (std::uint32_t left = count; left > 0;) {
    const std::uint32_t first = next_slot(cursor_, true);
    if (first == kBatchSlots) {
      cursor_ = 0;
      continue;
    }
    const std::uint32_t end = std::min(next_slot(first, false), first + left);
    for (std::uint32_t slot = first; slot < end; ++slot) set_free(slot, false);
    runs.push_back({first, end - first});
    left -= end - first;
    cursor_ = end;
  }
  return true;
}

void BatchFile::move_to(MutableBytes memory) {
  VMS_ASSERT(memory.size() == memory_.size());
  std::copy(memory_.begin(), memory_.end(), memory.begin());
  memory_ = memory;
}

MutableBytes BatchFile::slot(std::uint32_t number) noexcept {
  VMS_ASSERT(number < kBatchSlots);
  return memory_.subspan(batch_format::slot_place(number), kBlockBytes);
}

ByteSpan BatchFile::slot(std::uint32_t number) const noexcept {
  return slots({number, 1});
}

ByteSpan BatchFile::slots(SlotRun run) const noexcept {
  VMS_ASSERT(run.first < kBatchSlots && run.count <= kBatchSlots - run.first);
  return ByteSpan(memory_).subspan(batch_format::slot_place(run.first),
                                   std::size_t{run.count} * kBlockBytes);
}

void BatchFile::free_slots(SlotRun run) {
  VMS_ASSERT(run.first < kBatchSlots && run.count <= kBatchSlots - run.first);
  for (std::uint32_t slot = run.first; slot < run.first + run.count; ++slot) {
    // A slot of a closed batch stays until release_up_to(), whatever supersedes it.
    VMS_ASSERT(users_[slot] == kAllocated ||
               (users_[slot] >= open_begin_ && users_[slot] < published_));
    set_free(slot, true);
  }
}

// ---- entries ----

bool BatchFile::can_publish(std::size_t count) const noexcept {
  return count < free_entry_count();  // one stays for the close
}

void BatchFile::publish(std::span<const BatchEntry> entries) {
  VMS_ASSERT(can_publish(entries.size()));
  std::uint64_t position = published_;
  for (const BatchEntry& entry : entries) {
    VMS_ASSERT(entry.kind != BatchEntry::Kind::close);
    store_entry(position, entry);
    if (entry.kind == BatchEntry::Kind::blocks) {
      for (std::uint64_t i = 0; i < entry.blocks; ++i) {
        VMS_ASSERT(users_[entry.slot + i] == kAllocated);
        users_[entry.slot + i] = position;
      }
    }
    ++position;
  }
  publish_word(batch_format::kPublishedAt, batch_format::encode_count(position));
  published_ = position;
}

std::uint64_t BatchFile::close_batch(Sequence sequence, bool flush_mark) {
  VMS_ASSERT(sequence > last_sequence_);
  VMS_ASSERT(free_entry_count() > 0);
  store_entry(published_, BatchEntry::make_close(sequence, flush_mark));
  publish_word(batch_format::kPublishedAt, batch_format::encode_count(published_ + 1));
  open_begin_ = ++published_;
  last_sequence_ = sequence;
  return published_;
}

void BatchFile::release_up_to(std::uint64_t entry_count, std::vector<SlotRun>& runs) {
  VMS_ASSERT(entry_count >= released_ && entry_count <= published_);
  VMS_ASSERT(entry_count <= open_begin_ || entry_count == published_);
  const std::uint64_t first = released_;
  publish_word(batch_format::kReleasedAt, batch_format::encode_count(entry_count));
  released_ = entry_count;
  open_begin_ = std::max(open_begin_, entry_count);
  for (std::uint64_t position = first; position < entry_count; ++position) {
    const BatchEntry entry = entry_at(position);
    if (entry.kind != BatchEntry::Kind::blocks) continue;
    for (std::uint64_t i = 0; i < entry.blocks; ++i) {
      const auto slot = static_cast<std::uint32_t>(entry.slot + i);
      if (users_[slot] != position) continue;  // superseded, perhaps in use again
      users_[slot] = kAllocated;
      if (!runs.empty() && runs.back().first + runs.back().count == slot) {
        ++runs.back().count;
      } else {
        runs.push_back({slot, 1});
      }
    }
  }
}

}  // namespace vmstore::disk
