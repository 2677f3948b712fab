// SPDX-License-Identifier: Apache-2.0
// AsyncDisk: one disk as its session uses it: token, batch file, open batch, log, overlay, index,
// snapshots, hand-over. DESIGN 4, 6, 7, 11.
//
// Invariants:
//  - nothing is read or written before the token is ours, or the holder answers for us (C3, R7);
//  - nothing is answered out of memory without a running lease: a newer owner asks for it first
//  (C3);
//  - a write is acknowledged only when it is in the batch file and its space is promised (C1, C10);
//  - sequences are given when a batch closes, in order; nothing overtakes (C2);
//  - an address enters the mapping only when its record is committed [R3];
//  - a session that was fenced answers EIO for ever once it has written (I3), and leaves its batch
//    file, unlocked and untouched from then on, to the next one.
//
// THREADS: try_* from any thread; everything else on the scheduler's.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "base/sync.h"
#include "disk/batch_file.h"
#include "disk/disk.h"
#include "disk/garbage.h"
#include "disk/log.h"
#include "disk/mapping.h"
#include "disk/owned_record.h"
#include "disk/page_writer.h"
#include "disk/replay.h"
#include "disk/session.h"
#include "disk/view_reader.h"

namespace vmstore::disk {

struct AsyncDiskOptions {
  bool bulk = false;                       // no batch file: an import that starts over when it dies
  std::optional<GuestProcess> guest;       // the NBD client, if known
  std::uint64_t checkpoint_runs = 32768;   // overlay runs that start a checkpoint
  std::uint64_t checkpoint_leaves = 4096;  // dirty leaves that start one
  std::uint64_t checkpoint_log_bytes = 16 * limits::kMiB;  // log to replay that starts one
  std::uint64_t free_batch_blocks = 4096;                  // garbage blocks that start freeing
  /// One call keeps a fence or a seal of the key waiting for some 20 ms, and lets so much be
  /// written.
  std::size_t free_runs_per_call = 256;
  std::uint64_t garbage_blocks_max = 0;  // beyond it writers are slowed; 0: by the disk's size
  /// Somebody waits for the disk: of a long backlog only the longest holes are freed.
  Duration release_freeing = std::chrono::seconds(3);
  std::int64_t credit_ahead_blocks = 4096;               // space kept promised ahead of the writer
  std::uint64_t key_roll_bytes = limits::kKeyRollBytes;  // a key this long is followed by the next
  Duration no_space_wait = limits::kNoSpaceWait;
};

/// A batch that has its sequence: in the order of closing, sent and committed in that order.
struct ClosedBatch {
  Sequence sequence;
  bool is_batch = true;  // else `item` is a record of our own (pages, root, resize)
  std::vector<snapshot::Extent> extents;
  std::vector<snapshot::Extent> garbage;
  std::uint64_t end_entry = 0;
  bool flush_mark = false;
  bool of_takeover = false;
  LogItem item;
};

class AsyncDisk final : public HeldDisk,
                        public SlotSource,
                        public std::enable_shared_from_this<AsyncDisk> {
 public:
  AsyncDisk(Session& session, VersionedDisk disk, AsyncDiskOptions options);
  ~AsyncDisk() override;

  [[nodiscard]] DiskId id() const noexcept { return id_; }
  /// As the catalogue or our own log says now.
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_.load(); }

  // ---- any thread: true when done on the spot, false when the task below must be used ----
  [[nodiscard]] bool try_read(std::uint64_t offset, MutableBytes into);
  [[nodiscard]] bool try_write(std::uint64_t offset, ByteSpan bytes);
  [[nodiscard]] bool try_zero(std::uint64_t offset, std::uint64_t bytes);
  /// Nothing written before the call is uncommitted.
  [[nodiscard]] bool try_flush();
  /// Guest requests now open and when the last one came, for the hand-over rule.
  void note_request_begin() noexcept;
  void note_request_end() noexcept;
  void set_connected(bool connected) noexcept { connected_ = connected; }

  // ---- scheduler ----
  [[nodiscard]] Task<Result<void>> read(std::uint64_t offset, MutableBytes into);
  [[nodiscard]] Task<Result<void>> write(std::uint64_t offset, ByteSpan bytes);
  [[nodiscard]] Task<Result<void>> zero(std::uint64_t offset, std::uint64_t bytes);
  [[nodiscard]] Task<Result<void>> flush();
  [[nodiscard]] Task<Result<std::vector<DiskExtent>>> extents(std::uint64_t offset,
                                                              std::uint64_t bytes,
                                                              std::size_t count_max);
  /// Takes the token and recovers, if not done yet. `busy`: another session holds the disk.
  [[nodiscard]] Task<Result<void>> acquire();
  /// A user more: an open front end, or a command. Each is matched by one leave().
  void enter() noexcept { ++users_; }
  /// The last user to leave gives the disk back; the object is of no use after that.
  [[nodiscard]] Task<Result<void>> leave();
  /// leave() of a user that does not wait to give anything back.
  [[nodiscard]] Task<void> drop();
  /// Commits everything, writes the index out, gives the token back, whoever still uses it.
  [[nodiscard]] Task<Result<void>> release();
  /// Writes the overlay out as pages and a root.
  [[nodiscard]] Task<Result<void>> checkpoint();
  /// Ends work without giving anything back, as a killed process would; waits for its tasks.
  [[nodiscard]] Task<void> abandon();

  /// Snapshot: flush, freeze, put the closed view under `name`.
  [[nodiscard]] Task<Result<SnapshotTiming>> snapshot(std::string name);
  /// Makes a snapshot's view pages only, so that its readers and clones replay nothing.
  [[nodiscard]] Task<Result<SnapshotTiming>> write_out_snapshot(std::string name);
  /// A closed view of now, for a clone; `ops`/`compares` go into the transaction that makes the
  /// cut.
  using MakeOps = std::function<Result<void>(
      const ClosedView&, std::vector<meta::Compare>&, std::vector<meta::Op>&)>;
  [[nodiscard]] Task<Result<SnapshotTiming>> cut(MakeOps make_ops,
                                                 std::string name = {},
                                                 SnapshotId id = {});
  [[nodiscard]] Task<Result<void>> resize(std::uint64_t bytes);
  /// The disk becomes what `view` says if `still_there` holds; everything else of it becomes
  /// garbage.
  [[nodiscard]] Task<Result<void>> rollback(ClosedView view, meta::Compare still_there);
  [[nodiscard]] OwnedRecord& record() noexcept { return record_; }
  /// Overwritten and not freed yet, and how long writers have waited for that. Scheduler.
  [[nodiscard]] std::uint64_t garbage_blocks() const noexcept { return garbage_.blocks(); }
  [[nodiscard]] Duration slowed_time() const noexcept { return slowed_time_; }
  [[nodiscard]] bool is_owner() const noexcept { return mode_.load() == Mode::owner; }
  /// What a guest of this object was answered no longer holds: it was fenced, or another session
  /// wrote after it did.
  [[nodiscard]] Task<Result<bool>> is_outdated();
  /// Closed, or about to be.
  [[nodiscard]] bool is_closed() const noexcept { return stopping_.is_set(); }
  /// Drops what this session caches of the index and the data (tests: evict).
  void evict();

  // HeldDisk, SlotSource
  [[nodiscard]] Epoch held_epoch() const noexcept override { return record_.epoch(); }
  [[nodiscard]] Task<Result<net::DiskCallAnswer>> serve(
      std::unique_ptr<pb::DiskCallRequest> request) override;
  [[nodiscard]] HolderLease& lease() noexcept override { return lease_; }
  void on_fenced(Epoch epoch) override;
  [[nodiscard]] ByteSpan slot_bytes(std::uint64_t first_slot, std::uint64_t slots) const override;

 private:
  enum class Mode { idle, owner, failed, closed };

  // async_disk.cc: token
  [[nodiscard]] Task<Result<void>> acquire_locked();
  [[nodiscard]] Task<Result<void>> recover(bool clean, meta::pb::Writer prior);
  [[nodiscard]] Task<Result<ReplayedState>> replay_own_log(LogPosition end, ReplayRequest request);
  [[nodiscard]] Task<void> adopt_state(ReplayedState state, LogStart start, LogPosition end);
  [[nodiscard]] Task<Result<snapshot::RunMap>> replay_base();
  [[nodiscard]] Task<Result<void>> recover_batch_file(Sequence recovered,
                                                      bool clean,
                                                      const meta::pb::Writer& prior);
  [[nodiscard]] Task<Result<void>> append_left_over(BatchFileContent content,
                                                    Sequence recovered,
                                                    Epoch keep);
  [[nodiscard]] Result<void> stale_batch_file(const BatchFileContent* content);
  [[nodiscard]] Task<Result<void>> release_locked();
  [[nodiscard]] Task<Result<void>> commit_and_write_out(TimePoint deadline);
  [[nodiscard]] Task<void> end_ownership();
  /// Nobody who holds an epoch before ours answers for the disk any more without looking at its
  /// record. After our token is in it.
  [[nodiscard]] Task<Result<void>> outlast_older_holders();
  /// The lease ran out, or somebody took a newer token. Success: look again.
  [[nodiscard]] Task<Result<void>> renew_lease();
  [[nodiscard]] bool has_lease() const noexcept { return lease_.runs(session_.scheduler().now()); }
  [[nodiscard]] Task<Result<void>> wait_for_node();
  [[nodiscard]] Task<Result<void>> ask_for_hand_over();
  [[nodiscard]] Task<Result<void>> hand_over(bool force);
  [[nodiscard]] Task<Result<std::vector<DiskExtent>>> serve_extents(std::uint64_t offset,
                                                                    std::uint64_t bytes,
                                                                    std::size_t count_max);
  [[nodiscard]] Task<Result<void>> read_through_holder(std::uint64_t offset, MutableBytes into);
  [[nodiscard]] Task<Result<void>> ensure_writable();
  /// Success does not say that it is: what stood in the way may have passed, try again.
  [[nodiscard]] Task<Result<void>> try_become_writable();
  [[nodiscard]] Task<Result<void>> start_writing_locked();
  [[nodiscard]] Task<Result<void>> make_batch_memory();
  [[nodiscard]] BatchFileIdentity batch_identity() const;
  void note_writing();
  [[nodiscard]] Task<void> drop_log();
  [[nodiscard]] Task<void> lose_token();
  void become_failed(const Error& error);
  /// After become_failed(): gives up the batch file and the lease.
  [[nodiscard]] static Task<void> let_go(std::shared_ptr<AsyncDisk> self);
  [[nodiscard]] static Task<void> settle_fenced(std::shared_ptr<AsyncDisk> self, Epoch epoch);
  /// kBatchFileBytes of heap_memory_, made anew.
  [[nodiscard]] MutableBytes make_private_memory();

  // async_disk_write.cc
  struct Merge {
    bool needed = false;
    Lbn lbn;
    bool in_pages = false;
    Address top;
    Address address;
    bool have_bytes = false;
    int times_gone = 0;  // found freed when it was to be read
    std::vector<std::byte> bytes;
  };
  enum class Outcome { done, merge, full, no_credit, slowed, not_owner };
  [[nodiscard]] Outcome write_blocks(
      std::uint64_t offset, ByteSpan bytes, Merge& head, Merge& tail, std::size_t& written);
  [[nodiscard]] Outcome write_chunk(Lbn lbn,
                                    std::uint64_t blocks,
                                    std::uint64_t offset,
                                    ByteSpan bytes,
                                    Merge& head,
                                    Merge& tail);
  [[nodiscard]] Outcome zero_run(Lbn lbn, std::uint64_t blocks);
  [[nodiscard]] bool merge_block(Lbn lbn, Merge& merge, MutableBytes block);
  [[nodiscard]] bool try_prepare_merge(Merge& merge);
  [[nodiscard]] Task<Result<void>> prepare_merge(Merge& merge);
  [[nodiscard]] Task<Result<void>> read_for_merge(Merge& merge);
  /// `no_space_at`: when a store that has been full all the time is the writer's error.
  [[nodiscard]] Task<Result<void>> wait_for_room(Outcome why,
                                                 std::optional<TimePoint>& no_space_at);
  [[nodiscard]] bool stage_blocks(Lbn lbn,
                                  ByteSpan content,
                                  std::vector<BatchEntry>& entries,
                                  std::vector<snapshot::Extent>& extents);
  void put_extent(const snapshot::Extent& extent);
  [[nodiscard]] std::int64_t clean_leaves(Lbn lbn, std::uint64_t blocks) const;
  void mark_leaves_dirty(Lbn lbn, std::uint64_t blocks);
  void close_open_batch(bool flush_mark);
  void kick();
  void drain_closed();
  void after_publish();
  [[nodiscard]] LogItem item_of_batch(ClosedBatch& batch);
  void on_batch_committed(const ClosedBatch& batch, const Placement& place);
  void note_committed(const Placement& place);
  [[nodiscard]] Sequence enqueue(LogItem item);
  struct Load {
    bool idle = false;        // nothing open, nothing in flight
    bool checkpoint = false;  // time for one
  };
  [[nodiscard]] Load load() const;
  [[nodiscard]] Task<void> background();
  [[nodiscard]] bool is_credit_low() const;
  [[nodiscard]] bool set_watched(bool watched);
  [[nodiscard]] bool may_have_left_over() const;
  [[nodiscard]] Task<Result<void>> decide_before_flush();
  [[nodiscard]] Sequence close_and_last_sequence(bool flush_mark);

  // async_disk_checkpoint.cc
  [[nodiscard]] Task<Result<void>> checkpoint_locked();
  /// Again while the node is away.
  [[nodiscard]] Task<Result<void>> checkpoint_until(TimePoint deadline);
  [[nodiscard]] Task<Result<void>> write_out_oldest();
  [[nodiscard]] PageWriter page_writer(std::int64_t charged_pages);
  [[nodiscard]] std::shared_ptr<FrozenLayer> freeze_now();
  [[nodiscard]] Task<Result<void>> settle_layer(std::shared_ptr<FrozenLayer> layer);
  [[nodiscard]] ClosedView closed_view(LogPosition end, std::uint64_t disk_bytes) const;
  [[nodiscard]] Task<Result<void>> finish_snapshot(std::string name, SnapshotId id, Address top);
  void start_checkpoint();
  [[nodiscard]] Task<void> checkpoint_in_background();
  [[nodiscard]] Task<Result<void>> own_for_maintenance();
  [[nodiscard]] Task<Result<void>> ensure_writing_for_checkpoint();
  void protect_up_to(KeyId key, BlockIndex data_end);
  void store_cut(meta::pb::DiskRecord& record) const;
  /// REQUIRES: token and maintenance locked, owner, not writable.
  [[nodiscard]] Task<Result<void>> rollback_locked(ClosedView view, meta::Compare still_there);

  // async_disk_space.cc
  [[nodiscard]] std::uint64_t garbage_blocks_max() const noexcept;
  [[nodiscard]] bool may_free(Address address) const noexcept;
  void add_garbage(Address address, std::uint64_t blocks);
  void start_freeing();
  [[nodiscard]] Task<void> free_in_background();
  [[nodiscard]] Task<bool> free_part(Garbage::Part part);
  [[nodiscard]] Task<void> free_rest(TimePoint deadline);
  void forget_garbage();
  void settle_slowing();
  [[nodiscard]] Task<void> wait_for_frees();

  Session& session_;
  const DiskId id_;
  const AsyncDiskOptions options_;
  OwnedRecord record_;
  HolderLease lease_;
  std::unique_ptr<Log> log_;
  Mapping mapping_;
  ViewReader reader_;
  TaskMutex token_mutex_;        // acquire, release, start writing
  TaskMutex maintenance_mutex_;  // checkpoint, snapshot, resize, rollback
  Gate gate_;
  Event stopping_;
  Event room_;   // slots or credit came back
  Event freed_;  // garbage went, or there is less than the limit
  Event wake_;   // for background()
  std::atomic<Mode> mode_{Mode::idle};
  std::atomic<bool> writable_{false};  // owner, writer, batch memory there
  std::optional<Error> failure_;
  bool released_in_order_ = false;        // everything acknowledged before is committed
  std::optional<Epoch> my_writer_epoch_;  // set while our guest believes in writes of ours
  std::atomic<std::uint64_t> size_bytes_;
  std::atomic<bool> write_through_{false};  // no batch file: acknowledge only what is committed
  bool background_running_ = false;

  std::atomic<int> requests_open_{0};
  std::atomic<std::int64_t> last_request_ns_{0};
  std::atomic<bool> connected_{false};
  /// Of a token that was taken from a clean disk, under which nothing was done yet: the node went
  /// away before it knew of the holder.
  std::optional<TokenNonce> unused_token_;
  TimePoint held_by_another_until_;  // reads need not ask before
  std::size_t users_ = 0;
  std::uint64_t assigned_bytes_ = 0;  // the disk's size after every record that has a sequence

  // ---- under mapping_.mutex() ----
  // Shared with the frames that are being sent from them: the memory stays as long as they do.
  std::shared_ptr<BatchHandle> handle_;
  std::shared_ptr<std::vector<std::byte>> heap_memory_;
  std::optional<BatchFile> batch_;
  snapshot::RunMap open_runs_;
  std::uint64_t open_blocks_ = 0;
  std::vector<snapshot::Extent> open_garbage_;  // addresses that the open batch supersedes
  std::unordered_set<std::uint64_t> dirty_leaves_;
  std::int64_t charged_pages_ = 0;
  bool has_discards_ = false;  // in the overlay, since it was frozen last
  TimePoint frozen_at_;
  TimePoint checkpoint_again_at_;  // the one before failed
  std::deque<std::shared_ptr<ClosedBatch>> closed_;
  std::uint64_t last_assigned_ = 0;  // newest sequence given
  std::uint64_t takeover_left_ = 0;  // batches of a takeover not committed yet
  bool takeover_active_ = false;
  bool watched_ = false;  // background() looks at an open batch before it is too old
  std::atomic<bool> kicked_{false};
  std::atomic<std::int64_t> open_since_ns_{0};  // 0: the open batch is empty
  bool slowed_ = false;                         // the backlog of garbage is beyond its limit
  std::int64_t slow_allowance_ = 0;             // blocks that may be written nevertheless

  // ---- scheduler only ----
  LogPosition committed_end_;  // behind the newest committed record
  BlockIndex committed_data_end_;
  struct Mark {
    LogPosition position;
    BlockIndex data_end;
  };
  std::map<Sequence, Mark> marks_;   // ends of records that a frozen layer waits for
  Address view_top_;                 // pages of the newest root (or of the base)
  std::vector<LogPart> view_parts_;  // of the base, while no root contains them
  LogPosition own_from_;             // own log that the pages do not contain begins here
  struct CutMark {
    KeyId key;
    BlockIndex block;
  };
  std::optional<CutMark> cut_;  // nothing before it is freed privately
  std::unordered_set<KeyId> own_keys_;
  Garbage garbage_;
  bool freeing_ = false;  // free_in_background() runs
  std::size_t slowed_writers_ = 0;
  TimePoint slowed_since_;
  Duration slowed_time_{0};
  Duration slowed_untold_{0};            // of this, not reported to the node yet
  std::vector<Address> replaced_pages_;  // of the newest checkpoint: named by the root before
};

}  // namespace vmstore::disk
