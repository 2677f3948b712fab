// SPDX-License-Identifier: Apache-2.0
// The three files of one key: data, log, sums. docs/format/key_files.md is the byte layout.
//
// Invariants: of the two slots in a log's head the valid one with the highest generation counts,
// and a slot is only overwritten while the other is valid; a slot that is lost although nothing was
// being written is damage, never "the older one"; a file that should be there and is not is
// `unknown`, never `not_found` (I9).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/ids.h"
#include "base/limits.h"
#include "base/result.h"
#include "storaged/block_run.h"
#include "wire/frame.h"

namespace vmstore::storaged {

inline constexpr std::uint32_t kKeyFormatVersion = 1;
inline constexpr std::size_t kHeadSlotBytes = 512;
inline constexpr std::uint64_t kHeadSlotStride = limits::kLogHeadBytes / 2;
inline constexpr std::uint64_t kSumBytes = 8;

/// What a log's head says: the state of the key, outside length and comparison.
struct LogHead {
  std::uint64_t generation = 0;  // of this slot; 1 is written by create
  KeyId key;
  DiskId disk;
  Incarnation incarnation;             // of the node that made this replica
  std::array<std::byte, 32> domain{};  // zero: the default domain
  Epoch token;                         // the fence
  bool sealed = false;
  bool shared = false;
  bool damaged = false;
  std::uint32_t copies = 1;
  KeyLength length;               // what is below is synced, or still in the ring
  std::uint64_t last_record = 0;  // log offset of the newest record; 0: none yet
  Sequence committed;
  friend bool operator==(const LogHead&, const LogHead&) = default;
};

[[nodiscard]] std::array<std::byte, kHeadSlotBytes> encode_log_head(const LogHead& head);
/// `not_found`: all zeros, never written. `corrupt`: damaged, or the head of another key.
/// `newer_format`: a higher version. `unsupported`: reserved for later.
[[nodiscard]] Result<LogHead> decode_log_head(ByteSpan slot, KeyId key);

struct ChosenHead {
  LogHead head;
  /// The other slot holds neither an older head nor the zeros of a new file: the write of a newer
  /// head was torn (the ring then holds entries of this key), or a newer head is lost.
  bool other_slot_bad = false;
};
/// Chooses between the slots of a log's first 4 KiB. Errors as decode_log_head(); `newer_format`
/// and `unsupported` in either slot count.
[[nodiscard]] Result<ChosenHead> choose_log_head(ByteSpan head_block, KeyId key);

enum class KeyFileKind : std::uint8_t { data, log, sums };

inline constexpr std::string_view kKeysFolder = "keys";
inline constexpr unsigned kKeyFolderCount = 256;
/// "keys/ab": keys are drawn in sequence, so the last two digits spread them.
[[nodiscard]] std::string key_folder(unsigned index);
[[nodiscard]] std::string key_folder(KeyId key);
/// "keys/ab/0000000ab.data".
[[nodiscard]] std::string key_path(KeyId key, KeyFileKind kind);
/// "keys/ab/0000000ab.bad": a sync of this key failed, nothing of its newest part may be believed.
[[nodiscard]] std::string key_bad_mark_path(KeyId key);
/// "keys/ab/0000000ab.copy-data": a file on its way; means nothing under this name.
[[nodiscard]] std::string key_copy_path(KeyId key, KeyFileKind kind);
struct KeyFileName {
  KeyId key;
  std::string suffix;  // "data", "log", "sums", "bad", "copy-…"
};
/// `foreign_store` for a name that no node of ours makes.
[[nodiscard]] Result<KeyFileName> parse_key_file_name(std::string_view name);

/// The process (or the host) has no descriptor left: nothing is wrong with what was to be opened.
[[nodiscard]] bool is_out_of_descriptors(const Error& error) noexcept;

/// The open files of one key. THREADS: any; every call blocks.
class KeyFiles {
 public:
  /// Opens what is there. `unknown`: one of the files is missing (damage, not absence).
  [[nodiscard]] static Result<std::shared_ptr<KeyFiles>> open(Files& files, KeyId key);
  /// Opens, making what is not there. The names are durable after sync_folder(key_folder(key)).
  [[nodiscard]] static Result<std::shared_ptr<KeyFiles>> create(Files& files, KeyId key);
  /// Removes what is there. Durable after sync_folder().
  [[nodiscard]] static Result<void> remove(Files& files, KeyId key);

  /// Syncs one of the files. The system tells an open file once that a write-back failed: syncs of
  /// one file wait for each other, and after one that failed every later one fails too.
  [[nodiscard]] Result<void> sync(KeyFileKind kind);

  [[nodiscard]] File& data() noexcept { return *data_; }
  [[nodiscard]] File& log() noexcept { return *log_; }
  [[nodiscard]] File& sums() noexcept { return *sums_; }

  /// Writes the head into the slot of its generation.
  [[nodiscard]] Result<void> write_head(const LogHead& head);
  /// `offset` counts from the end of the head.
  [[nodiscard]] Result<void> write_log(std::uint64_t offset, ByteSpan bytes);
  [[nodiscard]] Result<void> write_sums(BlockIndex first, std::span<const std::uint64_t> sums);
  [[nodiscard]] Result<void> write_blocks(BlockIndex first, const wire::Payload& blocks);
  /// The same past the page cache: for many blocks that are synced next.
  [[nodiscard]] Result<void> write_blocks_uncached(BlockIndex first, const wire::Payload& blocks);
  /// Sums to zero first, then the space is given back: a reader that meets the hole sees the zero.
  /// From the zeros on the blocks are gone; giving back is advice. False: the file system cannot do
  /// it (now), the space stays taken until the key is deleted.
  [[nodiscard]] Result<bool> punch(const BlockRun& run);

  /// Exactly `into.size()` bytes of the log; `corrupt` when the file ends before.
  [[nodiscard]] Result<void> read_log(std::uint64_t offset, MutableBytes into);
  [[nodiscard]] Result<void> read_blocks(BlockIndex first, MutableBytes into);
  /// The sums of `into.size()` blocks.
  [[nodiscard]] Result<void> read_sums(BlockIndex first, std::span<std::uint64_t> into);
  /// The same without waiting for a device: `busy` when it would have to.
  [[nodiscard]] Result<void> read_sums_cached(BlockIndex first, std::span<std::uint64_t> into);
  [[nodiscard]] Result<void> read_blocks_cached(BlockIndex first, MutableBytes into);

  /// `corrupt` when a file is shorter than `length` needs (F13).
  [[nodiscard]] Result<void> check_sizes(const KeyLength& length);
  [[nodiscard]] Result<std::uint64_t> allocated_bytes();

 private:
  KeyFiles(std::unique_ptr<File> data, std::unique_ptr<File> log, std::unique_ptr<File> sums);
  static Result<std::shared_ptr<KeyFiles>> open_all(Files& files, KeyId key, bool create);
  std::unique_ptr<File> data_;
  std::unique_ptr<File> log_;
  std::unique_ptr<File> sums_;
  struct SyncState {
    std::mutex mutex;  // held for one sync
    bool failed = false;
  };
  std::array<SyncState, 3> syncs_;  // by KeyFileKind
};

}  // namespace vmstore::storaged
