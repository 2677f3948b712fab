// SPDX-License-Identifier: Apache-2.0
// The content of the golden files of the key files and the journal.
#pragma once

#include <vector>

#include "base/checksum.h"
#include "storaged/journal_format.h"
#include "storaged/key_files.h"

namespace vmstore::storaged {

inline LogHead sample_head() {
  LogHead head;
  head.generation = 6;
  head.key = *KeyId::make(0x1'0000'00ab);
  head.disk = DiskId{0x1111, 0x2222};
  head.incarnation = Incarnation{0x3333, 0x4444};
  head.token = Epoch(9);
  head.sealed = true;
  head.copies = 2;
  head.length.last_sequence = Sequence(77);
  head.length.log_bytes = 4096;
  head.length.blocks = BlockIndex{300};
  head.last_record = 3896;
  head.committed = Sequence(75);
  return head;
}

inline RingHead sample_ring_head() {
  RingHead head;
  head.generation = 12;
  head.incarnation = Incarnation{0x3333, 0x4444};
  head.file_bytes = limits::kMiB;
  head.tail_offset = 5 * kJournalUnitBytes;
  head.tail_number = 41;
  head.clean = true;
  return head;
}

/// Entries with everything they refer to.
struct SampleEntries {
  std::vector<std::vector<std::byte>> storage;  // what the spans below refer to
  std::vector<std::vector<ByteSpan>> pieces;
  std::vector<OutgoingEntry> entries;

  void add(const EntryFields& fields, std::vector<std::byte> body) {
    storage.push_back(std::move(body));
    OutgoingEntry entry;
    entry.fields = fields;
    entry.body = storage.back();
    entries.push_back(entry);
  }
};

inline wire::RecordHeader sample_record(
    KeyId key, Sequence sequence, BlockIndex data_offset, std::size_t blocks, ByteSpan content) {
  wire::RecordHeader record;
  record.disk = DiskId{0x1111, 0x2222};
  record.key = key;
  record.epoch = Epoch(3);
  record.sequence = sequence;
  record.data_offset = data_offset;
  wire::Run run;
  run.kind = blocks > 0 ? wire::RunKind::stored : wire::RunKind::zero;
  run.lbn = Lbn(1000);
  run.count = blocks > 0 ? blocks : 7;
  record.runs.push_back(run);
  for (std::size_t i = 0; i < blocks; ++i) {
    record.block_sums.push_back(block_sum(content.subspan(i * kBlockBytes, kBlockBytes)));
  }
  return record;
}

/// Blocks whose bytes count upwards.
inline std::vector<std::byte> sample_blocks(std::size_t blocks) {
  std::vector<std::byte> content(blocks * kBlockBytes);
  for (std::size_t i = 0; i < content.size(); ++i) {
    content[i] = static_cast<std::byte>((i / 16 + i / kBlockBytes) & 0xffU);
  }
  return content;
}

/// An append of `blocks` blocks behind `place`.
inline void add_append(SampleEntries& sample,
                       KeyId key,
                       const KeyLength& place,
                       std::size_t blocks) {
  sample.storage.reserve(64);  // the spans must not move
  sample.storage.push_back(sample_blocks(blocks));
  const ByteSpan content = sample.storage.back();
  EntryFields fields;
  fields.kind = EntryKind::append;
  fields.key = key;
  fields.token = Epoch(3);
  fields.head_generation = 2;
  fields.place = place;
  const auto record = sample_record(key, place.last_sequence.next(), place.blocks, blocks, content);
  sample.add(fields, wire::encode_record(record));
  sample.pieces.reserve(64);
  sample.pieces.push_back({content});
  sample.entries.back().blocks = sample.pieces.back();
}

/// The first group of the golden file: a create, an append with a block, an append of a header
/// only.
inline SampleEntries sample_group_one() {
  SampleEntries sample;
  sample.storage.reserve(64);
  const KeyId key = *KeyId::make(16);
  CreateBody body;
  body.disk = DiskId{0x1111, 0x2222};
  body.incarnation = Incarnation{0x3333, 0x4444};
  body.copies = 2;
  wire::RecordHeader header;
  header.kind = wire::RecordKind::key_header;
  header.disk = body.disk;
  header.key = key;
  header.epoch = Epoch(3);
  header.sequence = Sequence(5);
  body.header_record = wire::encode_record(header);
  EntryFields fields;
  fields.kind = EntryKind::create;
  fields.key = key;
  fields.token = Epoch(3);
  fields.head_generation = 1;
  fields.place.last_sequence = Sequence(4);
  fields.place.log_bytes = body.header_record.size();
  const KeyLength place = fields.place;
  sample.add(fields, encode_create(body));
  add_append(sample, key, place, 1);
  EntryFields large;
  large.kind = EntryKind::append_header;
  large.key = *KeyId::make(17);
  large.token = Epoch(8);
  large.head_generation = 4;
  large.place.last_sequence = Sequence(10);
  large.place.log_bytes = 2000;
  large.place.blocks = BlockIndex{50};
  large.committed = Sequence(9);
  const auto content = sample_blocks(2);
  const auto record = sample_record(large.key, Sequence(11), BlockIndex{50}, 2, content);
  sample.add(large, wire::encode_record(record));
  return sample;
}

/// The second: fence, seal, punch, remove.
inline SampleEntries sample_group_two() {
  SampleEntries sample;
  sample.storage.reserve(64);
  EntryFields fields;
  fields.key = *KeyId::make(17);
  fields.token = Epoch(12);
  fields.head_generation = 4;
  fields.kind = EntryKind::fence;
  sample.add(fields, {});
  fields.kind = EntryKind::seal;
  fields.place.last_sequence = Sequence(11);
  fields.place.log_bytes = 2216;
  fields.place.blocks = BlockIndex{52};
  fields.last_record = 2000;
  sample.add(fields, {});
  fields.kind = EntryKind::punch;
  fields.place = KeyLength();
  fields.last_record = 0;
  const std::vector<BlockRun> runs{{BlockIndex{0}, 3}, {BlockIndex{51}, 1}};
  sample.add(fields, encode_punch(runs));
  fields.kind = EntryKind::remove;
  fields.key = *KeyId::make(18);
  sample.add(fields, {});
  return sample;
}

inline std::vector<std::byte> encode_sample(std::uint64_t number,
                                            const SampleEntries& sample,
                                            std::span<const KeyId> previous) {
  std::vector<std::byte> bytes(group_bytes(sample.entries, previous.size()));
  encode_group(number, previous, sample.entries, bytes);
  return bytes;
}

}  // namespace vmstore::storaged
