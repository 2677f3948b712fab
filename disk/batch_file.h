// SPDX-License-Identifier: Apache-2.0
// The batch file: every acknowledged and not yet committed write of one disk, in memory that
// outlives the process (DESIGN 4.2). docs/format/batch_file.md is the byte layout.
//
// Invariants: the death of the process at any instruction loses no published store, and exposes no
// unpublished one; a published slot is never rewritten; recovery yields exactly the published
// prefix or an error, never less (I9, I11, I13). Why the order of stores gives that is argued at
// the head of batch_file.cc.
//
// Life of a write: allocate() free slots, copy whole blocks into slot(), publish() the entries
// under the owner's lock, then free_slots() what they superseded, acknowledge. Life of a batch:
// close_batch() when it gets its sequence, release_up_to() when its record is committed,
// free_slots() when no reader is inside a slot any more.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/result.h"
#include "snapshot/run_map.h"

namespace vmstore::disk {

inline constexpr std::size_t kBatchHeaderBytes = 4096;
inline constexpr std::size_t kBatchEntries = 16384;
inline constexpr std::size_t kBatchEntryBytes = 32;
inline constexpr std::size_t kBatchSlotsOffset =
    kBatchHeaderBytes + kBatchEntries * kBatchEntryBytes;
inline constexpr std::uint32_t kBatchSlots =
    static_cast<std::uint32_t>((limits::kBatchFileBytes - kBatchSlotsOffset) / kBlockBytes);

/// `count` consecutive slots from `first` on.
struct SlotRun {
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  friend bool operator==(const SlotRun&, const SlotRun&) = default;
};

/// One step of the guest, in the order of acknowledgement.
struct BatchEntry {
  enum class Kind : std::uint8_t {
    blocks = 1,  // `blocks` consecutive blocks from `lbn`, in consecutive slots from `slot`
    zero = 2,    // `blocks` blocks from `lbn` read as zeros
    resize = 3,  // the disk has `disk_bytes` from here on
    close = 4,   // everything since the last close is the batch with `sequence`
  };
  Kind kind = Kind::zero;
  Lbn lbn;
  std::uint64_t blocks = 0;
  std::uint32_t slot = 0;
  std::uint64_t disk_bytes = 0;
  Sequence sequence;
  bool flush_mark = false;
  friend bool operator==(const BatchEntry&, const BatchEntry&) = default;

  [[nodiscard]] static BatchEntry make_blocks(Lbn lbn, SlotRun slots) noexcept;
  [[nodiscard]] static BatchEntry make_zero(Lbn lbn, std::uint64_t blocks) noexcept;
  [[nodiscard]] static BatchEntry make_resize(std::uint64_t disk_bytes) noexcept;
  [[nodiscard]] static BatchEntry make_close(Sequence sequence, bool flush_mark) noexcept;
};

/// Whose file it is; fixed for its life.
struct BatchFileIdentity {
  StoreId store;
  DiskId disk;
  BootId boot;
  friend bool operator==(const BatchFileIdentity&, const BatchFileIdentity&) = default;
};

/// The process at the other end of the NBD socket; pid 0 = unknown.
struct GuestProcess {
  std::uint64_t pid = 0;
  std::uint64_t start_time = 0;  // field 22 of /proc/PID/stat: a reused pid is another process
  friend bool operator==(const GuestProcess&, const GuestProcess&) = default;
};

/// The part of the header that changes, replaced as a whole.
struct BatchFileState {
  /// Recorded writers whose next session may append this file. Two, because the file must name an
  /// epoch before the CAS that makes it the writer: a death in between leaves either recorded.
  std::array<Epoch, 2> epochs;
  /// Set while a session appends what an earlier one left (see BatchFile::begin_takeover): every
  /// batch above it is to be appended, whatever the log already holds above it.
  std::optional<Sequence> takeover_base;
  GuestProcess guest;
  friend bool operator==(const BatchFileState&, const BatchFileState&) = default;

  [[nodiscard]] bool names(Epoch epoch) const noexcept {
    return epoch.value != 0 && (epochs[0] == epoch || epochs[1] == epoch);
  }
};

/// One batch found in a file. Rewrites inside it are already applied: extents are disjoint, in
/// order of lbn, each in slots or zero.
struct RecoveredBatch {
  std::optional<Sequence> sequence;  // empty: the open batch
  bool flush_mark = false;
  std::optional<std::uint64_t> disk_bytes;  // of its last resize
  std::vector<snapshot::Extent> extents;
  std::uint64_t end_entry = 0;  // release_up_to() this when it is committed
};

enum class BatchFileCondition : std::uint8_t {
  blank,       // no header: new, or its maker died while making it; nothing acknowledged is in it
  other_boot,  // of an earlier boot of this host: void
  live,
};

struct BatchFileContent {
  BatchFileCondition condition = BatchFileCondition::blank;
  BatchFileIdentity identity;
  BatchFileState state;
  std::vector<RecoveredBatch> batches;  // oldest first; only the last may be open

  /// The batches that are not in a log recovered up to `recovered`, in order (DESIGN 4.2).
  [[nodiscard]] std::vector<RecoveredBatch> missing_after(Sequence recovered) const;
};

/// Reads a file that nobody writes (its lock is held). `corrupt`: impossible content;
/// `newer_format`: a later version; `foreign_store`: of another store or disk, or no batch file.
/// None of these means "empty": what was acknowledged may be in there.
[[nodiscard]] Result<BatchFileContent> scan_batch_file(ByteSpan memory,
                                                       const BatchFileIdentity& expected);

/// What the disk's record says about the last session that appended.
struct RecordedWriter {
  Epoch epoch;
  bool is_clean = false;               // it released the disk: nothing of it is left
  bool has_file_of_this_boot = false;  // it ran on this host since the last boot, with a batch file
};

enum class LeftOver : std::uint8_t {
  nothing,  // every acknowledged write of this host is in the log
  append,   // missing_after() is to be appended before anything is answered
  lost,     // acknowledged writes cannot be found, or cannot be put above what others wrote since:
            // their guest gets an error, never older bytes
};

/// What a session that recovered the log up to `recovered` must do with the file it found here;
/// `content` is null when there is none. Sequences of the file say something about the log only if
/// the log's last writer is one that the file names (R1).
[[nodiscard]] LeftOver judge_left_over(const BatchFileContent* content,
                                       const RecordedWriter& writer,
                                       Sequence recovered);

/// The owner's side. THREADS: all calls under one lock of the owner, except that slots got from
/// allocate() may be filled, and published ones read, without it. OWNS: the lists of free slots;
/// not the memory (a mapping, or a heap buffer in tests and the simulator), which outlives it.
class BatchFile {
 public:
  /// Called after every single store to the memory; for tests.
  using StoreHook = void (*)(void* context);

  /// Makes a new, empty batch file. What it held is lost. A live file of the same identity stays
  /// live all the time, so that a death in here never leaves a blank one. REQUIRES: `memory` is
  /// kBatchFileBytes long, aligned to 4 KiB, and allocated (a hole in a full tmpfs would be
  /// SIGBUS).
  [[nodiscard]] static BatchFile create(MutableBytes memory,
                                        const BatchFileIdentity& identity,
                                        const BatchFileState& state,
                                        StoreHook hook = nullptr,
                                        void* hook_context = nullptr);
  /// Goes on with a live file: everything published and unreleased stays so. Errors as
  /// scan_batch_file(); `not_found` when it is not live.
  [[nodiscard]] static Result<BatchFile> adopt(MutableBytes memory,
                                               const BatchFileIdentity& expected);

  // ---- header ----

  [[nodiscard]] const BatchFileState& state() const noexcept { return state_; }
  /// Names `next` beside the recorded writer `keep`. To be called before the CAS that makes `next`
  /// the writer. REQUIRES: the file is empty, or state().names(keep).
  void name_epoch(Epoch keep, Epoch next);
  /// name_epoch() for a session that is about to append what the file holds, above `recovered`,
  /// the last sequence in the recovered log. If it dies half-way, the next one appends the rest
  /// again, whatever sequences this one has used (R2).
  void begin_takeover(Epoch keep, Epoch next, Sequence recovered);
  /// Everything that was in the file at begin_takeover() is released. REQUIRES: that it is.
  void end_takeover();
  [[nodiscard]] bool takeover_is_done() const noexcept { return released_ >= takeover_end_; }
  void set_guest(const GuestProcess& guest);
  /// Goes on in `memory`, with a copy of everything; the memory it had stays as it is now. For a
  /// session that was fenced: what it left belongs to the next one. REQUIRES: as create().
  void move_to(MutableBytes memory);

  // ---- writing ----

  /// `count` free slots in as few runs as the free list gives cheaply, appended to `runs`; false,
  /// and nothing taken, when there are not that many.
  [[nodiscard]] bool allocate(std::uint32_t count, std::vector<SlotRun>& runs);
  /// The 4 KiB of one slot. REQUIRES for writing: allocated and not published.
  [[nodiscard]] MutableBytes slot(std::uint32_t number) noexcept;
  [[nodiscard]] ByteSpan slot(std::uint32_t number) const noexcept;
  /// Bytes of consecutive slots.
  [[nodiscard]] ByteSpan slots(SlotRun run) const noexcept;
  /// True when `count` entries fit, with room left for the close of the batch.
  [[nodiscard]] bool can_publish(std::size_t count) const noexcept;
  /// All entries, or after a death none, belong to the file. REQUIRES: can_publish(); slots named
  /// are allocated, filled and unpublished; no close among them.
  void publish(std::span<const BatchEntry> entries);
  /// The open batch gets `sequence`; returns the entry count to release when it is committed.
  /// REQUIRES: above every earlier sequence of this session (and of the file, without a takeover).
  [[nodiscard]] std::uint64_t close_batch(Sequence sequence, bool flush_mark);

  // ---- giving back ----

  /// The batches up to `entry_count` are committed: appends their slots to `runs`, to be given to
  /// free_slots() when no reader is inside. REQUIRES: a value from close_batch() or end_entry, or
  /// published() when the open batch is empty; not less than released().
  void release_up_to(std::uint64_t entry_count, std::vector<SlotRun>& runs);
  /// Slots to use again: released, superseded by a published entry of the same open batch, or
  /// allocated and never published. REQUIRES: no reader is inside.
  void free_slots(SlotRun run);

  // ---- counters ----

  [[nodiscard]] std::uint32_t free_slot_count() const noexcept { return free_count_; }
  [[nodiscard]] std::size_t free_entry_count() const noexcept {
    return kBatchEntries - static_cast<std::size_t>(published_ - released_);
  }
  [[nodiscard]] std::uint64_t published() const noexcept { return published_; }
  [[nodiscard]] std::uint64_t released() const noexcept { return released_; }
  /// Nothing in it that is not committed.
  [[nodiscard]] bool empty() const noexcept { return published_ == released_; }

  void set_store_hook(StoreHook hook, void* context) noexcept;

 private:
  /// What a slot is used for. Positions are entry numbers; the two below are beyond any.
  static constexpr std::uint64_t kFree = ~std::uint64_t{0};
  static constexpr std::uint64_t kAllocated = kFree - 1;

  explicit BatchFile(MutableBytes memory);
  void take_over_counts() noexcept;
  void take_over_slots(const BatchFileContent& content);
  void store_word(std::size_t offset, std::uint64_t value) noexcept;
  void publish_word(std::size_t offset, std::uint64_t value) noexcept;
  void store_header(const BatchFileIdentity& identity) noexcept;
  void store_state(const BatchFileState& state) noexcept;
  void store_entry(std::uint64_t position, const BatchEntry& entry) noexcept;
  [[nodiscard]] BatchEntry entry_at(std::uint64_t position) const noexcept;
  /// First slot at or after `from` that is free (or not), or kBatchSlots.
  [[nodiscard]] std::uint32_t next_slot(std::uint32_t from, bool is_free) const noexcept;
  void set_free(std::uint32_t slot, bool is_free) noexcept;

  MutableBytes memory_;
  StoreHook hook_ = nullptr;
  void* hook_context_ = nullptr;
  BatchFileState state_;
  std::uint64_t state_number_ = 0;
  std::uint64_t published_ = 0;
  std::uint64_t released_ = 0;
  std::uint64_t open_begin_ = 0;    // entry number at which the open batch begins
  std::uint64_t takeover_end_ = 0;  // entries below were there at begin_takeover()
  Sequence last_sequence_;
  std::vector<std::uint64_t> users_;      // per slot: kFree, kAllocated or its entry's number
  std::vector<std::uint64_t> free_bits_;  // 1 = free
  std::uint32_t free_count_ = 0;
  std::uint32_t cursor_ = 0;  // next-fit: what was freed last is used last
};

}  // namespace vmstore::disk
