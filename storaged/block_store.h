// SPDX-License-Identifier: Apache-2.0
// BlockStore: the keys of one node: block files, group-commit journal, fences, recovery, reads.
// docs/format/key_files.md and docs/format/journal.md are the byte layouts.
//
// Invariants:
//  - an append is answered only when it and everything before it in its key is on stable storage,
//    without a gap; a length is reported only for such a prefix (C12);
//  - an append is accepted only with a token >= the fence, unsealed, exactly at the length, or
//    identical to what is there (then answered as done); it never creates a key (C4);
//  - a fence is a journal record ordered with the appends of its key: appends queued before it are
//    in the length it answers, those after it with an older token are refused (C15, F4);
//  - replay cuts an open key at the first gap beyond the committed length it knows; a gap below it
//    is damage: the key is `unknown`, never cut;
//  - every block read from the device is checked against its sum; a punched or missing block is an
//    error, never zeros (I8);
//  - a failed sync is never retried on that file: the key takes no more appends on this node. When
//    it was the data file's, what was answered is written anew and the key is sealed at that length
//    (salvage.h); else it is `unknown`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/worker_pool.h"
#include "storaged/block_run.h"
#include "wire/frame.h"
#include "wire/record.h"

namespace vmstore::storaged {

struct BlockStoreOptions {
  std::uint64_t journal_bytes = 0;  // 0: limits::kJournalBytes; tests use small rings
  std::uint64_t reserve_bytes = 0;  // space kept for acknowledged data and for freeing
  /// Keys whose three files stay open; see open_keys_for().
  std::size_t open_keys_max = 512;
  /// A worker of its own for the ring, so that group writes never queue behind syncs; null: the
  /// pool.
  WorkerPool* journal_pool = nullptr;
};

/// State of one key as kept in its log head.
struct KeyState {
  KeyId key;
  DiskId disk;
  Epoch token;  // fence: appends below are refused
  bool sealed = false;
  bool shared = false;
  bool damaged = false;  // unknown beyond repair here: reads of good blocks still work
  std::uint32_t copies = 1;
  KeyLength length;
  Sequence committed;  // newest committed sequence told by the owner
  Incarnation incarnation;
};

struct AppendRequest {
  KeyId key;
  Epoch token;
  Sequence sequence;
  std::uint64_t log_offset = 0;
  BlockIndex data_offset;
  Sequence committed;
  std::vector<std::byte> record;  // encoded header
  wire::Payload blocks;
};

/// `log_offset`, `sequence`: where the part of the log begins that is needed (repair.h).
struct RepairRequest {
  KeyId key;
  DiskId disk;
  Epoch token;
  std::uint64_t log_offset = 0;
  Sequence sequence;
  bool accept_loss = false;  // false: only told what would be lost
};
struct RepairAnswer {
  bool needed = false;  // it is damaged; whether something is lost tells the length
  KeyLength known;
  KeyLength kept;
  WallTime kept_time;    // when the newest record that is kept was written
  std::string cut_path;  // what was cut, without ".log" and ".data"; empty: nothing
};

struct ReadRangeRequest {
  Address address;
  std::uint32_t blocks = 0;
};
struct ReadAnswer {
  wire::Payload payload;
  std::vector<std::uint64_t> sums;
};
struct LogAnswer {
  wire::Payload bytes;
  std::uint64_t log_bytes = 0;
  bool sealed = false;
};
struct KeyFilesAnswer {
  int data_fd = -1;  // owned by the store, valid until the key is deleted
  int sums_fd = -1;
  KeyLength length;
  std::shared_ptr<void> owner;  // keeps the descriptors open until they are sent
};
struct BlockStoreCounters {
  std::uint64_t appends = 0;
  std::uint64_t append_bytes = 0;
  std::uint64_t journal_groups = 0;
  std::uint64_t syncs = 0;
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t checksum_failures = 0;
  std::uint64_t blocks_punched = 0;
  std::uint64_t keys_deleted = 0;
};

/// THREADS: the scheduler's; blocking work goes to the pool. A started call must be awaited to its
/// end; only the end of the whole process (or its simulated crash) abandons calls.
class BlockStore {
 public:
  /// `files` is the node's data folder (below it: keys/, journal); both outlive the store.
  BlockStore(Scheduler& scheduler, WorkerPool& pool, Files& files, BlockStoreOptions options);
  BlockStore(const BlockStore&) = delete;
  BlockStore& operator=(const BlockStore&) = delete;
  ~BlockStore();

  /// Creates the journal and folders in an empty folder, or replays; `incarnation` is the node's.
  /// `newer_format`, `foreign_store`, `corrupt` (ring damage in the middle) refuse to open.
  [[nodiscard]] Task<Result<void>> open(Incarnation incarnation);
  /// Finishes what is under way, destages, closes. After it the folder needs no replay.
  [[nodiscard]] Task<void> close();

  /// Idempotent for the same token and header. `exists`: another key has the number, or had it.
  [[nodiscard]] Task<Result<KeyState>> create(KeyId key,
                                              DiskId disk,
                                              Epoch token,
                                              std::vector<std::byte> header_record,
                                              std::uint32_t copies,
                                              bool shared);
  [[nodiscard]] Task<Result<KeyLength>> append(AppendRequest request);
  struct Fenced {
    KeyState state;
    std::vector<std::byte> last_record;  // encoded header, empty if none
  };
  [[nodiscard]] Task<Result<Fenced>> fence(KeyId key, Epoch token);
  /// Idempotent for the same length; `wrong_offset` for another. Only down to a record boundary at
  /// or above the committed sequence.
  [[nodiscard]] Task<Result<KeyLength>> seal(KeyId key, Epoch token, KeyLength length);
  /// Ends a damaged key at the damage. REQUIRES: its disk has no owner but the one with `token`.
  /// `not_found`, `stale_token`, `permission` (of another disk), `busy`; `unknown` when a file is
  /// missing, `corrupt` when nothing of the log can be kept, `no_space` for what is kept of the
  /// cut.
  [[nodiscard]] Task<Result<RepairAnswer>> repair(RepairRequest request);
  [[nodiscard]] Result<KeyState> info(KeyId key) const;
  [[nodiscard]] Task<Result<ReadAnswer>> read(std::vector<ReadRangeRequest> ranges);
  [[nodiscard]] Task<Result<LogAnswer>> read_log(KeyId key,
                                                 std::uint64_t log_offset,
                                                 std::uint32_t bytes_max);
  /// Allocates what the key needs to grow to these totals; answers up to where it is allocated.
  [[nodiscard]] Task<Result<KeyLength>> reserve(KeyId key,
                                                Epoch token,
                                                BlockIndex data_blocks,
                                                std::uint64_t log_bytes);
  /// An owner's private free: punches. Refused in a shared key, of another disk, or by a stale
  /// token.
  [[nodiscard]] Task<Result<void>> free_private(KeyId key,
                                                Epoch token,
                                                DiskId disk,
                                                std::vector<BlockRun> runs);
  void note_committed(KeyId key, Epoch token, Sequence committed);
  [[nodiscard]] Task<Result<KeyFilesAnswer>> key_files(KeyId key);

  // Garbage collection, by the node itself.
  [[nodiscard]] std::vector<KeyState> list() const;
  /// Punches blocks of a sealed key (journalled, idempotent).
  [[nodiscard]] Task<Result<std::uint64_t>> punch(KeyId key, std::vector<BlockRun> runs);
  /// Deletes a key's files; reads then answer `not_found`.
  [[nodiscard]] Task<Result<void>> remove(KeyId key);
  /// Runs of blocks of the key that are neither punched nor beyond its length (sum != 0).
  [[nodiscard]] Task<Result<std::vector<BlockRun>>> present_blocks(KeyId key);

  /// Bytes of space taken by all key files (data allocated, log, sums).
  [[nodiscard]] Task<Result<std::uint64_t>> used_bytes();
  /// Of the file system they are on.
  [[nodiscard]] Task<Result<FolderSpace>> space();
  [[nodiscard]] const BlockStoreCounters& counters() const noexcept;
  [[nodiscard]] std::uint64_t journal_used_bytes() const noexcept;
  /// False once the ring failed: reads go on, every change is refused until the next start.
  [[nodiscard]] bool takes_changes() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace vmstore::storaged
