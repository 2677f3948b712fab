// SPDX-License-Identifier: Apache-2.0
// Recovery: what the folders and the ring together say, put into the key files.
//
// Invariants: everything is idempotent, a crash at any point begins it anew; nothing is cut: a
// record that the ring holds was or may have been answered, so what does not fit together makes the
// key damaged (`unknown`), never shorter [R11, C12]; the ring begins anew only after all that it
// held is synced in the key files.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "storaged/journal.h"
#include "storaged/key_files.h"

namespace vmstore::storaged {

/// One key after recovery.
struct RecoveredKey {
  LogHead head;
  bool head_known = false;      // a slot could be read, or the ring had the create
  bool other_slot_bad = false;  // see ChosenHead
  bool too_short = false;       // the log, when it was listed
  bool bad_mark = false;        // a sync failed before the last stop

  // While the ring is replayed.
  bool touched = false;
  bool sealed_by_head = false;
  bool trim = false;
  std::optional<KeyLength> cursor;  // length after the newest entry
  std::uint64_t last_record = 0;
  std::vector<BlockRun> large;  // blocks that were synced before their entry: verified
  std::shared_ptr<KeyFiles> files;
};

/// THREADS: one at a time; every call blocks.
class Recovery {
 public:
  Recovery(Files& files, Journal& journal, Incarnation incarnation)
      : files_(files), journal_(journal), incarnation_(incarnation) {}

  /// The keys of some of the folders, by listing and reading heads. A list that fails is an error
  /// (I9); a head that cannot be read is a damaged key. THREADS: any, side by side.
  [[nodiscard]] static Result<std::map<KeyId, RecoveredKey>> list_folders(Files& files,
                                                                          unsigned first,
                                                                          unsigned count);
  void add(std::map<KeyId, RecoveredKey> listed) { keys_.merge(listed); }

  /// Replays the ring, syncs, and begins it anew.
  [[nodiscard]] Result<void> run();
  [[nodiscard]] const std::map<KeyId, RecoveredKey>& keys() const noexcept { return keys_; }
  /// Removed by an entry that is still in the ring.
  [[nodiscard]] const std::set<KeyId>& removed_keys() const noexcept { return removed_keys_; }

 private:
  Result<void> replay(const JournalContent& content);
  Result<void> apply(const DecodedEntry& entry);
  Result<void> apply_create(RecoveredKey& key, const DecodedEntry& entry);
  Result<void> apply_append(RecoveredKey& key, const DecodedEntry& entry);
  void apply_seal(RecoveredKey& key, const EntryFields& fields);
  Result<void> apply_punch(RecoveredKey& key, ByteSpan body);
  Result<void> write_append(RecoveredKey& key, const DecodedEntry& entry);
  Result<void> remove_keys(const std::set<KeyId>& removed);
  Result<void> finish(RecoveredKey& key);
  Result<void> verify_large(RecoveredKey& key);
  void settle_length(RecoveredKey& key);
  void damage(RecoveredKey& key, std::string_view why);
  /// An error of the key's own files: it is marked, and recovery goes on without it.
  Result<void> contain(RecoveredKey& key, const Error& error);
  Result<void> close_oldest();
  Result<KeyFiles*> files_of(RecoveredKey& key, bool create = false);
  Result<void> sync(RecoveredKey& key);

  Files& files_;
  Journal& journal_;
  Incarnation incarnation_;
  std::map<KeyId, RecoveredKey> keys_;
  std::set<KeyId> removed_keys_;
  std::deque<KeyId> open_;
  std::set<std::string> folders_;
};

}  // namespace vmstore::storaged
