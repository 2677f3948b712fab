// SPDX-License-Identifier: Apache-2.0
// Log: the owner's side of a disk's log: places records, keeps several in flight, commits them in
// order, rolls keys, holds the space credit. DESIGN 4.3-4.8.
//
// Invariants:
//  - records are appended in sequence order and committed in sequence order, nothing overtakes
//  (C2);
//  - a key exists on its replicas before the record of the disk names it, and an append never
//    creates one (C4); a disk has at most one unsealed key;
//  - who appends becomes the recorded writer by a CAS before its first append [R1];
//  - after a lost answer the same bytes are sent to the same place again; a node that has them
//    answers as done;
//  - `stale_token` ends the log for ever: nothing is acknowledged after it (I3).
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/sync.h"
#include "disk/copies.h"
#include "disk/owned_record.h"
#include "wire/record.h"

namespace vmstore::disk {

/// Where a record went.
struct Placement {
  KeyId key;
  Sequence sequence;
  std::uint64_t log_offset = 0;
  BlockIndex data_offset;
  LogPosition end;  // behind the record
  BlockIndex data_end;
  /// Address of the record's n-th stored block.
  [[nodiscard]] Address block(std::uint64_t index) const noexcept {
    return Address::make(key, data_offset)->plus(index);
  }
};

/// One record to append. `header` needs kind, runs, sums, labels, flags; the log fills in the rest.
struct LogItem {
  wire::RecordHeader header;
  wire::Payload blocks;
  /// Called when the place is known, before encoding; again if the record must go to another key.
  std::function<void(const Placement&, LogItem&)> on_place;
  /// Called in sequence order when the record is on all replicas.
  std::function<void(const Placement&)> on_commit;
};

struct LogStart {
  Sequence last_sequence;            // newest in the log
  std::optional<KeyPlace> open_key;  // cleanly released: append on after checking its length
  KeyLength open_length;
  KeyId last_key;  // predecessor of the next key; none at the beginning
  KeyLength last_length;
  LogPosition root;  // newest committed root
};

/// THREADS: the scheduler's, except what says so, and committed(), which any thread may call.
class Log {
 public:
  /// `roll_bytes`: a key with so many bytes of blocks or of log is followed by the next (soft).
  Log(Scheduler& scheduler, Copies& copies, OwnedRecord& record, std::uint64_t roll_bytes);
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  ~Log();

  void begin(const LogStart& start);
  /// Called once when the log ends for ever (fenced), before any waiter hears of it.
  void set_on_failure(std::function<void(const Error&)> callback) {
    on_failure_ = std::move(callback);
  }
  /// Becomes the writer and makes sure that an open key exists, with credit. Once per session.
  [[nodiscard]] Task<Result<void>> start_writing(BootId boot, bool has_batch_file);
  [[nodiscard]] bool is_writing() const noexcept { return writing_; }

  /// Queues a record. REQUIRES: called in sequence order; header.sequence is set.
  void append(LogItem item);
  /// Waits until `sequence` is committed, whatever it takes; the error that ended the log, if any;
  /// `timed_out` at the deadline, if there is one.
  [[nodiscard]] Task<Result<void>> wait_committed(Sequence sequence,
                                                  std::optional<TimePoint> deadline = {});
  [[nodiscard]] Sequence committed() const noexcept { return Sequence(committed_.load()); }
  /// Why the log ended, if it did.
  [[nodiscard]] std::optional<Error> failure() const noexcept { return failure_; }
  /// THREADS: any.
  [[nodiscard]] bool has_failed() const noexcept { return failed_.load(); }
  /// Position behind the newest placed record; when idle, the end of the log.
  [[nodiscard]] LogPosition end() const noexcept;
  [[nodiscard]] BlockIndex data_end() const noexcept { return length_.blocks; }
  [[nodiscard]] KeyId open_key() const noexcept { return key_; }
  [[nodiscard]] const KeyPlace& open_place() const noexcept { return place_; }
  [[nodiscard]] KeyLength open_length() const noexcept { return length_; }
  [[nodiscard]] LogPosition root() const noexcept { return root_; }
  void set_root(LogPosition root) noexcept { root_ = root; }
  /// Bytes of log headers since the newest root: what a replay would read.
  [[nodiscard]] std::uint64_t replay_bytes() const noexcept { return replay_bytes_; }
  void reset_replay_bytes() noexcept { replay_bytes_ = 0; }
  [[nodiscard]] const std::vector<KeyId>& own_keys() const noexcept { return own_keys_; }
  /// Begins no roll from here on, and no append of what would need one; resumes when none is under
  /// way. For who changes the record in a way that a roll must not come behind.
  [[nodiscard]] Task<void> hold_still();
  void go_on();
  /// Puts the end of the log into the record of a disk that is given back. REQUIRES: all is
  /// committed; hold_still().
  void name_end(meta::pb::DiskRecord& record) const;
  /// Puts the key numbers drawn so far into the record: one that was tried is never used again,
  /// also if nothing came of it.
  void remember_keys(meta::pb::DiskRecord& record) const {
    if (remember_range_) remember_range_(record);
  }

  /// Blocks that may still be acknowledged (C10): allocated behind the open key's length, less what
  /// was acknowledged and is not placed yet. THREADS: any.
  [[nodiscard]] std::int64_t credit_blocks() const noexcept { return credit_.load(); }
  /// Takes `blocks` of credit, or false and nothing. Placing a record of n blocks uses up n blocks
  /// that were taken. THREADS: any.
  [[nodiscard]] bool take_credit(std::int64_t blocks) noexcept;
  /// Takes credit for what must be written whatever the space (checkpoints). THREADS: any.
  void force_credit(std::int64_t blocks) noexcept;
  /// Gives back what was taken and will not be placed. THREADS: any.
  void give_credit(std::int64_t blocks) noexcept;
  /// Makes credit at least `blocks_wanted`, or says why not: `no_space` when the store is full.
  /// Success may give less (the key was rolled meanwhile): ask again. A key that takes nothing more
  /// is rolled, it is never the writer's error.
  [[nodiscard]] Task<Result<void>> refill_credit(std::int64_t blocks_wanted);

  /// Ends all work; pending waits return `closing`.
  void stop() noexcept;
  /// Resumes when the last of its tasks has ended. REQUIRES: stop().
  [[nodiscard]] Task<void> wait_stopped();

 private:
  struct Flight;
  void start_pump();
  [[nodiscard]] Task<void> pump();
  [[nodiscard]] Task<void> send(std::shared_ptr<Flight> flight);
  void launch(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] Task<void> resolve_trouble();
  /// False when it gave up: the log ends, or holds still.
  [[nodiscard]] Task<bool> roll_until_done();
  [[nodiscard]] Task<void> announce_committed();
  void place(Flight& flight);
  void advance();
  void fail(const Error& error);
  [[nodiscard]] bool must_roll() const noexcept;
  [[nodiscard]] Task<Result<void>> wait_rolled(KeyId key);
  [[nodiscard]] bool any_sending() const noexcept;
  [[nodiscard]] Task<Result<void>> open_new_key();
  [[nodiscard]] Task<Result<void>> adopt_open_key();
  [[nodiscard]] Task<Result<KeyPlace>> create_next_key(KeyLength& length);
  [[nodiscard]] bool can_do_without(const std::vector<NodeId>& away);
  [[nodiscard]] bool may_roll_for_slowness();
  [[nodiscard]] CopyCount copy_count() const noexcept;
  [[nodiscard]] Task<Result<void>> change_record(OwnedRecord::Change change);

  Scheduler& scheduler_;
  Copies& copies_;
  OwnedRecord& record_;
  const std::uint64_t roll_bytes_;
  Gate gate_;
  Event changed_;  // queue, flights, commit or failure changed
  TaskMutex credit_mutex_;

  KeyId key_;                              // open key, none before the first append
  KeyPlace place_;                         // of key_
  KeyLength length_;                       // placed so far in key_
  KeyLength committed_length_;             // the part of it that is committed
  std::uint64_t range_first_ = 0;          // key numbers drawn; 0: what the record says
  std::uint64_t range_next_ = 0;           // the next of them
  OwnedRecord::Change remember_range_;     // puts the numbers drawn so far into the record
  std::optional<KeyLength> adopt_length_;  // a released key_ that was not fenced by us yet
  /// Keys that a change of the record was to name and nobody knows whether it did. Nothing is in
  /// them but their headers.
  std::map<KeyId, KeyLength> perhaps_named_;
  bool begins_here_ = false;  // nothing was ever appended: the log begins in the next key
  KeyId last_key_;
  KeyLength last_length_;
  Sequence last_sequence_;  // newest placed
  LogPosition root_;
  std::uint64_t replay_bytes_ = 0;
  std::vector<KeyId> own_keys_;
  bool writing_ = false;
  bool pump_running_ = false;
  bool still_ = false;     // see hold_still()
  bool troubled_ = false;  // a flight came back with an error; nothing new is sent until resolved
  bool roll_wanted_ = false;      // the key takes nothing more, and nobody appends
  Duration roll_again_pause_{0};  // before the next roll, when nothing was committed since the last
  std::optional<Error> roll_error_;   // of the newest attempt
  std::deque<TimePoint> slow_rolls_;  // away from nodes that were slow
  std::vector<NodeId> gone_;          // did not answer the append that key_ is rolled for
  BootId boot_;
  bool has_batch_file_ = false;

  std::deque<std::shared_ptr<Flight>> queue_;    // not sent yet
  std::deque<std::shared_ptr<Flight>> flights_;  // sent, in order
  std::uint64_t flight_bytes_ = 0;
  std::atomic<std::uint64_t> committed_{0};
  std::atomic<std::int64_t> credit_{0};
  std::atomic<std::int64_t> outstanding_{0};  // taken and not placed
  BlockIndex reserved_;                       // data blocks allocated in key_
  Sequence announced_;
  bool announcing_ = false;
  std::optional<Error> failure_;
  std::atomic<bool> failed_{false};
  std::function<void(const Error&)> on_failure_;
  bool stopping_ = false;
};

}  // namespace vmstore::disk
