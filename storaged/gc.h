// SPDX-License-Identifier: Apache-2.0
// Gc: rounds of garbage collection on one node: a plain mark over all views and log tails, then
// keys that nothing reaches are deleted and blocks that nothing reaches are punched.
//
// Why nothing that is needed can be freed, whatever clients do meanwhile
// (docs/decisions/002-one-node-gc.md has every interleaving):
//  1. The node lists its keys first (L), then begins the round in the catalogue with a transaction,
//     whose revision M is a fact and not a stale read, then reads everything of the catalogue at M.
//  2. Only blocks in keys that were sealed in L are punched, and only keys of L are deleted. So
//     every candidate was written before M.
//  3. Every view that exists later was made from views of M by appends (young blocks only),
//     checkpoints, snapshots, clones, rollbacks and removals. Each of these reaches only old blocks
//     that were reachable at M, or that the disk's own log reaches from the record's log_from at M
//     to the end it has when it is read; both are marked, with every root found on the way.
//  4. An unsealed key is deleted only if no record names it, nothing needs its log or a block of
//     it, and its disk is gone or its token is below the disk's epoch at M: then a transaction that
//     would name it must fail (C4).
//  5. Any list, read or decode error, a compacted revision, a catalogue that went back: the round
//     ends and frees nothing (I9, G1). A key that cannot be freed leaves garbage, no more: what
//     was proven of the other keys does not depend on it.
//
// Invariants: one round at a time; no liveness by time; freeing is idempotent, so a crash between
// any two steps costs nothing but the space until the next round.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/result.h"
#include "base/sync.h"
#include "base/worker_pool.h"
#include "meta/meta_store.h"
#include "storaged/block_store.h"
#include "storaged/gc_mark.h"

namespace vmstore::storaged {

class MetricsText;

inline constexpr std::string_view kGcFile = "gc";
inline constexpr std::uint32_t kGcFormat = 1;
/// While it is there the node begins no round by itself: the catalogue came from a backup, and what
/// that does not name may be all that is left of something newer.
inline constexpr std::string_view kGcHoldFile = "gc.hold";
/// Puts it there, durably. THREADS: blocks.
[[nodiscard]] Result<void> hold_gc(Files& files);

struct GcReport {
  std::uint64_t round = 0;
  std::uint64_t keys_deleted = 0;
  std::uint64_t keys_failed = 0;  // could not be freed: said in the log, tried again next round
  std::uint64_t blocks_punched = 0;
  std::uint64_t bytes_freed = 0;  // of blocks; logs and sums come on top
  std::uint64_t blocks_live = 0;
  std::uint64_t pages_visited = 0;
};

/// What the data folder remembers: a round is refused when the catalogue is older than that.
struct GcState {
  std::uint64_t round = 0;
  std::uint64_t revision = 0;
  std::uint64_t live_bytes = 0;  // taken by key files after the last round
  friend bool operator==(const GcState&, const GcState&) = default;
};
[[nodiscard]] std::vector<std::byte> encode_gc_state(const GcState& state);
/// `corrupt`, `newer_format`.
[[nodiscard]] Result<GcState> decode_gc_state(ByteSpan bytes);

/// What Gc works on; all of it outlives it.
struct GcParts {
  Scheduler& scheduler;
  WorkerPool& pool;
  Files& files;
  BlockStore& store;
  meta::MetaStore& meta;
};

/// THREADS: the scheduler's.
class Gc {
 public:
  explicit Gc(GcParts parts) : parts_(parts) {}
  Gc(const Gc&) = delete;
  Gc& operator=(const Gc&) = delete;

  /// One round, or with `dry_run` what one would free; then nothing at all is changed. `busy` while
  /// one is running, `interrupted` after stop().
  [[nodiscard]] Task<Result<GcReport>> run(bool dry_run);
  /// A running round ends at its next step.
  void stop() noexcept { stop_ = true; }

  /// `not_found` before the first round.
  [[nodiscard]] Task<Result<GcState>> load_state();
  /// Remembers what key files take after a round, for the next start.
  [[nodiscard]] Task<Result<void>> save_live(std::uint64_t live_bytes);
  /// Whether kGcHoldFile is there.
  [[nodiscard]] Task<Result<bool>> is_held();
  /// Removes it if it is there.
  [[nodiscard]] Task<Result<void>> lift_hold();
  /// Why the last round freed nothing; empty when it ended well.
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  void write_metrics(MetricsText& out) const;

 private:
  enum class Fate : std::uint8_t;
  [[nodiscard]] Task<Result<GcReport>> run_round(bool dry_run);
  [[nodiscard]] Task<Result<GcState>> begin_round();
  [[nodiscard]] Task<Result<void>> end_round(std::uint64_t round);
  [[nodiscard]] Task<Result<void>> save_state(GcState state);
  [[nodiscard]] Task<Result<void>> sweep(const std::vector<KeyState>& keys,
                                         const GcCatalogue& catalogue,
                                         const GcMark& mark,
                                         bool dry_run,
                                         GcReport& report);
  [[nodiscard]] Task<Result<void>> free_key(
      KeyState key, Fate fate, const KeyMarks& marks, bool dry_run, GcReport& report);
  [[nodiscard]] Task<Result<void>> delete_key(KeyState key, bool dry_run, GcReport& report);
  [[nodiscard]] Task<Result<void>> punch_unreached(KeyState key,
                                                   const KeyMarks& marks,
                                                   bool dry_run,
                                                   GcReport& report);

  GcParts parts_;
  bool running_ = false;
  bool stop_ = false;
  std::uint64_t rounds_ = 0;
  std::uint64_t failures_ = 0;
  Duration last_took_{0};
  std::string problem_;
  GcReport last_;
  GcReport total_;
};

}  // namespace vmstore::storaged
