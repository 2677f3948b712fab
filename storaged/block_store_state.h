// SPDX-License-Identifier: Apache-2.0
// BlockStore::State: what the block_store_*.cc files share. Private to them.
//
// Invariants: everything here changes on the scheduler's thread only; what runs on a worker is
// given copies or objects that nobody else touches meanwhile.
#pragma once

#include <chrono>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "storaged/block_store.h"
#include "storaged/journal.h"
#include "storaged/key.h"

namespace vmstore::storaged {

/// Blocks appended past the ring since the tail: they are read again by a recovery, so bounded.
inline constexpr std::uint64_t kUndestagedBlocksBytesMax = 256 * limits::kMiB;
/// Space that appends without a reservation take ahead.
inline constexpr std::uint64_t kDataAheadBytes = limits::kMiB;
inline constexpr std::uint64_t kWorkersMost = 8;  // that may allocate ahead at once
inline constexpr std::uint64_t kLogAheadBytes = 64 * limits::kKiB;
inline constexpr std::uint64_t kSumsAheadBytes = 16 * limits::kKiB;
/// Appends on their way, of all keys: beyond it they are refused as `busy`.
inline constexpr std::uint64_t kAppendBytesInFlightMax = 512 * limits::kMiB;

/// How often what found no descriptor is tried again, with pauses: about a second.
inline constexpr int kDescriptorAttempts = 20;
inline constexpr std::chrono::milliseconds kDescriptorPause{50};

struct BlockStore::State {
  State(Scheduler& home, WorkerPool& workers, Files& folder, BlockStoreOptions wanted);

  Scheduler& scheduler;
  WorkerPool& pool;
  WorkerPool& journal_pool;
  Files& files;
  BlockStoreOptions options;
  Incarnation incarnation;
  BlockStoreCounters counters;

  std::unordered_map<KeyId, std::shared_ptr<Key>> keys;
  /// Removed since the start, or by an entry that is still in the ring: never made again. A replay
  /// removes such a key whatever came later, and an address never changes its bytes.
  std::set<KeyId> removed_keys;
  Gate calls;       // calls from outside
  Gate background;  // the two loops below
  bool stopping = false;
  /// The ring failed: nothing is changed any more, reads go on.
  std::optional<Error> broken;

  /// The key, if it exists, is whole, and no create or remove of it is under way.
  [[nodiscard]] Result<std::shared_ptr<Key>> find(KeyId id) const;
  /// The same, and its newest part is to be believed.
  [[nodiscard]] Result<std::shared_ptr<Key>> find_undamaged(KeyId id) const;
  [[nodiscard]] KeyState describe(const Key& key) const;

  // ---- open files: block_store_files.cc ----
  std::list<Key*> open_keys;  // least recently used first
  /// The open files of the key; checks once that they are as long as they must be.
  [[nodiscard]] Task<Result<std::shared_ptr<KeyFiles>>> files_of(std::shared_ptr<Key> key);
  void adopt_files(Key& key, std::shared_ptr<KeyFiles> opened);
  void drop_files(Key& key);
  /// Others have got their names, and are synced.
  void forget_files(Key& key);
  void close_surplus_files();
  /// Closes half of what is open and not in use; false when there was nothing.
  bool close_unused_files();
  /// Runs `work`, which opens files, on a worker. When the process is out of descriptors, unused
  /// files are closed and it is run again; `busy` when that does not help.
  template <class Work>
  [[nodiscard]] Task<std::invoke_result_t<Work&>> run_opening(Work& work);
  [[nodiscard]] Task<void> wait_for_descriptors();
  /// Space for the key up to these ends really allocated; a little more when `ahead`.
  [[nodiscard]] Task<Result<void>> allocate(std::shared_ptr<Key> key,
                                            std::shared_ptr<KeyFiles> opened,
                                            Key::Allocated ends,
                                            bool ahead);
  /// The same for a promise: leaves the reserve alone, and outlives a power cut.
  [[nodiscard]] Task<Result<void>> reserve_space(std::shared_ptr<Key> key,
                                                 std::shared_ptr<KeyFiles> opened,
                                                 KeyLength end);
  [[nodiscard]] Task<Result<FolderSpace>> space();
  /// `no_space` when the reserve is nearly gone.
  [[nodiscard]] Task<Result<void>> check_room_for_key();
  [[nodiscard]] static bool has_space(const Key& key, const KeyLength& end) noexcept;

  // ---- the ring: block_store_commit.cc ----
  std::unique_ptr<Journal> journal;
  std::deque<Key*> ready_keys;
  Event commit_work;
  Event ring_space;                    // pulsed when the tail moved, or broken
  std::uint64_t completed_number = 0;  // newest group that is in ring and files
  std::uint64_t append_bytes_in_flight = 0;
  std::uint64_t undestaged_blocks_bytes = 0;
  std::uint64_t promised_bytes = 0;  // by calls that have not allocated them yet
  /// Queues the op behind those of its key. `ready` ops enter the ring with the next group.
  void submit(Op& op);
  void make_ready(Op& op);
  /// The op cannot enter the ring: it and the appends behind it end with `error`.
  void fail_from(Op& op, const Error& error);
  /// Submits and waits; has_effects() ops end with finish_effects().
  [[nodiscard]] Task<Result<void>> commit(Op& op);
  void finish_effects(Key& key);
  [[nodiscard]] Task<void> wait_idle(std::shared_ptr<Key> key);
  /// A write or sync of the key's files failed: refuses all further changes of it.
  void fail_key(Key& key,
                std::string_view what,
                const Error& error,
                Doubt doubt = Doubt::everything);
  void break_store(std::string_view what, const Error& error);
  [[nodiscard]] Task<void> run_commits();
  [[nodiscard]] std::vector<Op*> collect();
  [[nodiscard]] Task<void> commit_group(std::vector<Op*> ops);
  void complete(Op& op);
  void end(Op& op, const Result<void>& result);

  // ---- destaging: destage.cc ----
  std::deque<std::shared_ptr<Key>> dirty_keys;
  std::set<std::string> dirty_folders;
  Event destage_work;
  void mark_dirty(const std::shared_ptr<Key>& key);
  void kick_destage_if_due();
  [[nodiscard]] Task<void> run_destaging();
  /// Syncs what is in the ring now and moves the tail behind it.
  [[nodiscard]] Task<Result<void>> destage(bool clean);
  [[nodiscard]] Task<Result<void>> destage_keys(std::vector<std::shared_ptr<Key>> round);
  [[nodiscard]] Task<Result<void>> destage_few(std::span<const std::shared_ptr<Key>> few);
  [[nodiscard]] Task<Result<void>> settle_failed_keys(std::vector<std::shared_ptr<Key>> failed);

  // ---- a failed key's synced length: block_store_salvage.cc ----
  /// Writes anew what is in doubt and seals the key at its length, if it can be had.
  [[nodiscard]] Task<void> salvage_key(std::shared_ptr<Key> key);
  void adopt_salvaged(Key& key, const LogHead& head);
  /// Waits until a failed key is sealed at its synced length, or marked as lost.
  [[nodiscard]] Task<void> wait_settled(std::shared_ptr<Key> key);

  // ---- appends: block_store_append.cc ----
  struct CheckedAppend {
    wire::RecordHeader record;
    bool small = true;
  };
  [[nodiscard]] Result<CheckedAppend> check_append(const AppendRequest& request) const;
  [[nodiscard]] Task<Result<void>> prepare_append(Op& op, const wire::Payload& blocks);
  [[nodiscard]] Task<Result<void>> write_large(Op& op, const wire::Payload& blocks);
  [[nodiscard]] Task<Result<void>> sync_data(std::shared_ptr<Key> key,
                                             std::shared_ptr<KeyFiles> opened);
  /// The folder whose names must be synced too; empty: none.
  [[nodiscard]] static std::string begin_data_sync(Key& key);
  void end_data_sync(Key& key, const Result<void>& synced);
  /// Nothing was tried: neither synced nor failed.
  static void abandon_data_sync(Key& key);
  [[nodiscard]] Task<Result<KeyLength>> answer_repeated(std::shared_ptr<Key> key,
                                                        const AppendRequest& request);

  // ---- create, fence, seal, remove: block_store_control.cc ----
  [[nodiscard]] Task<Result<KeyState>> create_again(std::shared_ptr<Key> key,
                                                    LogHead wanted,
                                                    std::vector<std::byte> header_record);
  [[nodiscard]] Task<Result<void>> create_files(std::shared_ptr<Key> key, ByteSpan record);
  [[nodiscard]] Task<void> undo_create(std::shared_ptr<Key> key);
  [[nodiscard]] Task<Result<KeyLength>> seal_at(std::shared_ptr<Key> key,
                                                Epoch token,
                                                KeyLength length);

  // ---- repair: block_store_repair.cc ----
  void adopt_cut(Key& key, const LogHead& head);

  // ---- opening: block_store_recover.cc ----
  [[nodiscard]] Task<Result<void>> recover();

  // ---- freeing: block_store_free.cc ----
  [[nodiscard]] Task<Result<std::uint64_t>> punch_runs(std::shared_ptr<Key> key,
                                                       Epoch token,
                                                       std::vector<BlockRun> runs);
  /// `opened`, of when `renewals` was read: the files that have the key's names now.
  [[nodiscard]] Task<Result<void>> follow_files(std::shared_ptr<Key> key,
                                                std::shared_ptr<KeyFiles>& opened,
                                                std::uint64_t renewals);
  bool space_kept_said = false;
  void note_space_kept();  // once is enough

  // ---- descriptors for short cuts: block_store_read.cc ----
  std::list<std::pair<KeyId, std::shared_ptr<void>>> shared_descriptors;
};

template <class Work>
Task<std::invoke_result_t<Work&>> BlockStore::State::run_opening(Work& work) {
  for (int attempt = 0;; ++attempt) {
    auto outcome = co_await run_on(pool, scheduler, work);
    if (outcome || !is_out_of_descriptors(outcome.error())) co_return outcome;
    if (attempt == kDescriptorAttempts) co_return Error(Errc::busy, outcome.error().os_errno);
    co_await wait_for_descriptors();
  }
}

}  // namespace vmstore::storaged
