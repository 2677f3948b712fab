// SPDX-License-Identifier: Apache-2.0
// Reading a batch file that a dead process left.
//
// Everything between `released` and `published` must decode, or the file is corrupt: one entry that
// is passed over would be an acknowledged write lost in silence (I9). Each word is copied out once
// and checked before it is used.
#include <algorithm>

#include "base/checksum.h"
#include "disk/batch_file_format.h"

namespace vmstore::disk {
namespace {

using batch_format::load_word;
using batch_format::load_words;

/// Collects the entries of one batch after the other.
class BatchCollector {
 public:
  explicit BatchCollector(BatchFileContent& content) : content_(content), used_(kBatchSlots) {}

  [[nodiscard]] Result<void> add(const BatchEntry& entry, std::uint64_t position) {
    batch_.end_entry = position + 1;
    switch (entry.kind) {
      case BatchEntry::Kind::blocks:
        runs_.put({entry.lbn, entry.blocks, snapshot::Where::slot, entry.slot});
        break;
      case BatchEntry::Kind::zero:
        runs_.put({entry.lbn, entry.blocks, snapshot::Where::zero, 0});
        break;
      case BatchEntry::Kind::resize:
        batch_.disk_bytes = entry.disk_bytes;
        break;
      case BatchEntry::Kind::close:
        // A takeover numbers batches by its own log, which may lie below what the file says.
        if (!content_.state.takeover_base && entry.sequence <= last_sequence_) return Errc::corrupt;
        last_sequence_ = entry.sequence;
        batch_.sequence = entry.sequence;
        batch_.flush_mark = entry.flush_mark;
        return finish();
    }
    return success();
  }

  /// The entries after the last close are the open batch.
  [[nodiscard]] Result<void> end() {
    if (batch_.end_entry == 0) return success();
    return finish();
  }

 private:
  /// What rewrites left of the batch. A slot named twice is damage: one of the two blocks is gone.
  [[nodiscard]] Result<void> finish() {
    runs_.visit_all([this](const snapshot::Extent& run) { batch_.extents.push_back(run); });
    for (const snapshot::Extent& run : batch_.extents) {
      if (run.where != snapshot::Where::slot) continue;
      for (std::uint64_t slot = run.place; slot < run.place + run.blocks; ++slot) {
        if (used_[slot]) return Errc::corrupt;
        used_[slot] = true;
      }
    }
    content_.batches.push_back(std::move(batch_));
    batch_ = RecoveredBatch();
    runs_.clear();
    return success();
  }

  BatchFileContent& content_;
  std::vector<bool> used_;
  snapshot::RunMap runs_;
  RecoveredBatch batch_;
  Sequence last_sequence_;
};

/// The fixed part: whose file is it, and do we understand it?
Result<BatchFileIdentity> read_identity(ByteSpan memory) {
  const auto words = load_words<std::tuple_size_v<batch_format::StaticWords>>(memory, 0);
  if (words[0] != batch_format::kMagic) return Errc::foreign_store;
  const auto sum = load_word(memory, batch_format::kChecksumAt);
  if (sum != xxh3(std::as_bytes(std::span(words).first(words.size() - 1)))) return Errc::corrupt;
  if (words[1] > batch_format::kVersion) return Errc::newer_format;
  BatchFileIdentity identity;
  identity.store = {words[2], words[3]};
  identity.disk = {words[4], words[5]};
  identity.boot = {words[6], words[7]};
  if (batch_format::encode_static(identity) != words) return Errc::corrupt;
  return identity;
}

Result<BatchFileState> read_state(ByteSpan memory) {
  const std::uint64_t number = load_word(memory, batch_format::kStateNumberAt);
  const std::size_t place = batch_format::kStateAt[number % 2];
  const auto words = load_words<std::tuple_size_v<batch_format::StateWords>>(memory, place);
  return batch_format::decode_state(words, number);
}

Result<std::uint64_t> load_count(ByteSpan memory, std::size_t place) {
  return batch_format::decode_count(load_word(memory, place));
}

Result<void> read_batches(ByteSpan memory, BatchFileContent& content) {
  VMS_TRY(const std::uint64_t published, load_count(memory, batch_format::kPublishedAt));
  VMS_TRY(const std::uint64_t released, load_count(memory, batch_format::kReleasedAt));
  if (released > published || published - released > kBatchEntries) return Errc::corrupt;
  BatchCollector collector(content);
  for (std::uint64_t position = released; position < published; ++position) {
    const auto words = load_words<std::tuple_size_v<batch_format::EntryWords>>(
        memory, batch_format::entry_place(position));
    VMS_TRY(const BatchEntry entry, batch_format::decode_entry(words, position));
    VMS_CHECK(collector.add(entry, position));
  }
  return collector.end();
}

}  // namespace

std::vector<RecoveredBatch> BatchFileContent::missing_after(Sequence recovered) const {
  const Sequence base = state.takeover_base.value_or(recovered);
  std::vector<RecoveredBatch> missing;
  for (const RecoveredBatch& batch : batches) {
    if (!batch.sequence || *batch.sequence > base) missing.push_back(batch);
  }
  return missing;
}

LeftOver judge_left_over(const BatchFileContent* content,
                         const RecordedWriter& writer,
                         Sequence recovered) {
  const bool is_expected = !writer.is_clean && writer.has_file_of_this_boot;
  if (content == nullptr || content->condition != BatchFileCondition::live) {
    return is_expected ? LeftOver::lost : LeftOver::nothing;
  }
  if (!content->state.names(writer.epoch)) {
    // Another session wrote since, or the file that counts is not this one.
    return is_expected || !content->batches.empty() ? LeftOver::lost : LeftOver::nothing;
  }
  return content->missing_after(recovered).empty() ? LeftOver::nothing : LeftOver::append;
}

Result<BatchFileContent> scan_batch_file(ByteSpan memory, const BatchFileIdentity& expected) {
  if (memory.size() < kBatchHeaderBytes) return Errc::corrupt;
  BatchFileContent content;
  if (load_word(memory, batch_format::kMagicAt) == 0) return content;  // blank
  VMS_TRY(content.identity, read_identity(memory));
  if (memory.size() != limits::kBatchFileBytes) return Errc::corrupt;
  if (content.identity.store != expected.store || content.identity.disk != expected.disk) {
    return Errc::foreign_store;
  }
  if (content.identity.boot != expected.boot) {
    content.condition = BatchFileCondition::other_boot;
    return content;
  }
  content.condition = BatchFileCondition::live;
  VMS_TRY(content.state, read_state(memory));
  VMS_CHECK(read_batches(memory, content));
  return content;
}

}  // namespace vmstore::disk
