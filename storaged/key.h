// SPDX-License-Identifier: Apache-2.0
// Key and Op: what the store keeps in memory of one key, and one change of it on its way through
// the ring.
//
// Invariants: `state` is what the ring and the files hold together, nothing that is only on its
// way; the ops of a key enter the ring in the order they were accepted; when one cannot, no later
// append does (C12).
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <vector>

#include "base/sync.h"
#include "storaged/journal_format.h"
#include "storaged/key_files.h"

namespace vmstore::storaged {

struct Key;

/// One change of one key. OWNS: nothing; it lives in the frame of the call that made it.
struct Op {
  Op(Scheduler& scheduler, std::shared_ptr<Key> changed_key, EntryKind kind);
  EntryFields fields;
  KeyLength end;                           // append*: the length after it
  ByteSpan body;                           // goes into the ring as it is
  std::span<const ByteSpan> blocks;        // small append: also into the ring
  const wire::Payload* payload = nullptr;  // small append: into the data file
  std::span<const std::uint64_t> sums;     // append*: into the sums file
  std::shared_ptr<Key> key;
  std::shared_ptr<KeyFiles> files;  // append*
  bool preparing = false;           // may still write to the data file
  bool unwinding = false;           // ended while preparing
  bool ready = false;               // may enter the ring
  bool taken = false;               // is in a group
  bool ended = false;
  Result<void> result;
  Event done;
  Op* next = nullptr;
  [[nodiscard]] bool is_append() const noexcept {
    return fields.kind == EntryKind::append || fields.kind == EntryKind::append_header;
  }
  /// Its key must not be synced for destaging before finish_effects().
  [[nodiscard]] bool has_effects() const noexcept {
    return !is_append() && fields.kind != EntryKind::fence;
  }
};

/// Ops of one key that are not yet in a group, in order.
class OpQueue {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] Op* front() const noexcept { return first_; }
  void push(Op& op) noexcept;
  Op* pop() noexcept;
  /// Takes out `op` and every append behind it, in order; other kinds stay.
  [[nodiscard]] std::vector<Op*> cut_from(const Op& op);
  [[nodiscard]] std::vector<Op*> cut_all();

 private:
  Op* first_ = nullptr;
  Op* last_ = nullptr;
};

/// What a write or sync that failed leaves in doubt of a key.
enum class Doubt : std::uint8_t {
  everything,
  /// Only blocks of the data file that no sync had covered: those that were answered are in the
  /// ring.
  newest_blocks,
  /// The same of log and sums.
  newest_records,
};

/// Writing anew what a failed sync left in doubt (salvage.h).
enum class Salvage : std::uint8_t { none, wanted, done };

/// THREADS: the scheduler's.
struct Key {
  Key(Scheduler& scheduler, const LogHead& head);

  LogHead state;  // .generation: of the head written last
  /// Of the head that no power cut can take back: it is synced, and so are the names of the files.
  std::uint64_t durable_generation = 0;
  Epoch token;           // highest accepted, durable or on its way
  KeyLength accepted;    // with what is on its way
  bool live = true;      // false while it is being created or removed
  bool removed = false;  // the ring says so: nothing of it needs to be kept
  bool sealing = false;
  /// A write or sync failed: never tried again, and no append is counted or answered any more.
  bool failed = false;
  Salvage salvage = Salvage::none;
  bool salvaging = false;           // its files are being written anew
  Doubt doubt = Doubt::everything;  // once it failed
  bool mark_needed = false;         // failed, and not yet said so on stable storage
  bool head_lost = false;           // both slots unreadable: never written over

  OpQueue queue;
  bool in_ready_list = false;
  std::uint32_t in_flight = 0;        // ops in the group being written
  std::uint32_t pending_effects = 0;  // journalled ops whose change of the files is under way
  std::uint32_t unwinding = 0;        // failed appends that may still write to the data file
  Event changed;                      // pulsed when any of the above moves on
  TaskMutex control;                  // one fence, seal, punch, create or remove at a time

  std::shared_ptr<KeyFiles> files;  // while open
  std::uint64_t renewals = 0;       // how often the files themselves were replaced
  std::list<Key*>::iterator lru;    // valid while `files` is set
  bool sizes_checked = false;
  struct Allocated {
    std::uint64_t data = 0;
    std::uint64_t log = 0;  // with the head
    std::uint64_t sums = 0;
  };
  Allocated allocated;  // bytes known to be allocated from the file's start; 0: not known

  bool dirty = false;      // listed for destaging
  bool destaging = false;  // in the round under way, not yet synced
  bool data_dirty = false;
  bool folder_dirty = false;    // names made or removed since its folder was synced
  bool names_unsynced = false;  // the files are new: no sync of them counts before their folder's

  // Large appends that share syncs of the data file.
  std::uint64_t data_writes = 0;
  std::uint64_t data_writes_synced = 0;
  bool data_syncing = false;
  std::uint32_t large_writing = 0;

  [[nodiscard]] bool idle() const noexcept {
    return queue.empty() && in_flight == 0 && unwinding == 0;
  }
  [[nodiscard]] KeyId id() const noexcept { return state.key; }
  /// Nothing of its files is written or synced any more.
  [[nodiscard]] bool is_lost() const noexcept { return failed && salvage != Salvage::done; }
};

}  // namespace vmstore::storaged
