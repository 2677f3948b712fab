// SPDX-License-Identifier: Apache-2.0
// The record: what an owner appends to a key's log. docs/format/record.md is the byte layout.
//
// Invariants: encode() of a decoded header is the same bytes; decode() accepts only what encode()
// can produce (checksum, counts within limits, reserved bits zero); nothing here allocates more
// than the bytes it was given justify (I11).
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"

namespace vmstore::wire {

enum class RecordKind : std::uint8_t {
  data = 1,        // a batch of guest writes, zeroes and discards
  pages = 2,       // index pages
  root = 3,        // a checkpoint is complete: names the top page
  resize = 4,      // the disk's size changed; a shrink carries its zero run
  key_header = 5,  // first entry of every log: written by create, takes no sequence of its own
};

enum class RunKind : std::uint8_t {
  stored = 1,      // the next `count` blocks of this record
  at_address = 2,  // existing blocks from `address` on (dedup)
  zero = 3,        // reads as zeros; discards, write-zeroes, all-zero writes
};

/// `count` logical blocks from `lbn` on.
struct Run {
  RunKind kind = RunKind::zero;
  Lbn lbn;
  std::uint64_t count = 0;  // 1 .. 2^36
  Address address;          // only at_address
  friend bool operator==(const Run&, const Run&) = default;
};

/// What an index page in a `pages` record is, for scrub and mark.
struct PageLabel {
  std::uint8_t level = 0;  // 0 = leaf, 3 = top
  Lbn first_lbn;
  friend bool operator==(const PageLabel&, const PageLabel&) = default;
};

struct RecordHeader {
  RecordKind kind = RecordKind::data;
  bool flush_mark = false;  // a FLUSH or FUA closed this batch: a point history may open
  DiskId disk;
  KeyId key;
  Epoch epoch;         // the owner's token
  Sequence sequence;   // key_header: the sequence of the first record to come
  Sequence committed;  // the newest sequence the owner knew to be on all replicas
  WallTime wall_time;
  LogPosition root;              // newest committed root record; none() before the first
  Generation generation;         // of the oldest dedup hit used; 0 = no hits
  BlockIndex data_offset;        // where this record's blocks begin in the key's data file
  std::uint64_t disk_bytes = 0;  // resize and root: the disk's size from here on

  Address top_page;              // root only
  LogPosition replay_from;       // root only: the first record that the pages do not contain
  KeyId predecessor;             // key_header only; none for a disk's first key
  KeyLength predecessor_length;  // key_header only: its sealed length

  std::vector<Run> runs;                  // data, resize
  std::vector<PageLabel> pages;           // pages: one per block
  std::vector<std::uint64_t> block_sums;  // block_sum() of each stored block, in order
  friend bool operator==(const RecordHeader&, const RecordHeader&) = default;

  [[nodiscard]] std::uint64_t block_count() const noexcept { return block_sums.size(); }
};

/// Fixed part of every encoded header.
inline constexpr std::size_t kRecordFixedBytes = 168;

/// Exact bytes encode_record() will produce (a multiple of 8).
[[nodiscard]] std::size_t encoded_bytes(const RecordHeader& header) noexcept;
/// REQUIRES: within limits (record blocks, runs, header bytes); asserts, since it is our own data.
[[nodiscard]] std::vector<std::byte> encode_record(const RecordHeader& header);

struct DecodedRecord {
  RecordHeader header;
  std::size_t bytes = 0;  // consumed from the log
};
/// Decodes the record at the start of `log`. `not_found`: `log` begins with zeros or is empty (the
/// end of what was written). `wrong_offset`: cut short, more bytes are needed. `corrupt`: damaged.
/// `unsupported`: a kind, flag or slot reserved for later. `newer_format`: a higher version.
[[nodiscard]] Result<DecodedRecord> decode_record(ByteSpan log);

}  // namespace vmstore::wire
