// SPDX-License-Identifier: Apache-2.0
// MemStore: the catalogue in memory, for tests and the simulator, with the faults that a remote
// store has and that every caller must survive.
//
// MemCatalogue is the data, which outlives simulated processes; each process has a MemStore, its
// own client with its own scheduler and faults.
//
// Invariants: without faults it behaves as the conformance suite asks of every backend; a call
// never answers without having suspended at least once.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/random.h"
#include "base/scheduler.h"
#include "meta/restorable_store.h"
#include "meta/schema.h"
#include "meta/watch_hub.h"

namespace vmstore::meta {

/// What may happen to one call.
enum class MemFault {
  none,
  refused,       // `unavailable`, nothing happened
  lost_request,  // `timed_out`, a txn was not applied
  lost_answer,   // `timed_out`, a txn was applied
  applied_late,  // `timed_out`, a txn is applied while a later call of anybody is served
  stale_read,    // get and range at 0 answer as of an earlier revision, if one is kept
  compacted,     // all history is compacted away first
};

/// The chance of each fault is one in so many calls; 0 = never.
struct MemChances {
  std::uint64_t refused_one_in = 0;
  std::uint64_t lost_request_one_in = 0;
  std::uint64_t lost_answer_one_in = 0;
  std::uint64_t applied_late_one_in = 0;
  std::uint64_t stale_read_one_in = 0;
  std::uint64_t compacted_one_in = 0;
  Duration delay_most = Duration(0);  // before and after the call is served, uniform
};

/// THREADS: one, that of every scheduler of its clients.
class MemCatalogue {
 public:
  MemCatalogue() = default;
  MemCatalogue(const MemCatalogue&) = delete;
  MemCatalogue& operator=(const MemCatalogue&) = delete;

  [[nodiscard]] std::uint64_t revision() const noexcept { return revision_; }
  [[nodiscard]] std::uint64_t compacted() const noexcept { return compacted_; }
  /// Forgets what can be seen only at revisions below `revision` (at most the present one).
  void compact(std::uint64_t revision);

 private:
  friend class MemStore;
  struct Version {
    std::uint64_t revision = 0;
    std::optional<std::string> value;  // empty: removed
  };
  using Versions = std::vector<Version>;  // oldest first, never empty

  [[nodiscard]] std::uint64_t earlier_revision() const noexcept;
  [[nodiscard]] static std::optional<Entry> at(const std::string& key,
                                               const Versions& versions,
                                               std::uint64_t revision);
  [[nodiscard]] std::optional<Entry> find(const std::string& key, std::uint64_t revision) const;
  [[nodiscard]] Result<RangeAnswer> range(const RangeRequest& request) const;
  TxnAnswer apply(const Txn& txn);
  void apply_late_ones();
  [[nodiscard]] Changes history(std::uint64_t from) const;
  void record(Changes changes);
  Result<void> restore(Changes changes, std::uint64_t revision);

  std::map<std::string, Versions> keys_;
  Changes history_;  // revisions above compacted_
  std::deque<Txn> late_;
  std::uint64_t revision_ = kFirstRevision;
  std::uint64_t compacted_ = 0;
  std::vector<WatchHub*> hubs_;
};

class MemStore final : public RestorableStore {
 public:
  MemStore(Scheduler& scheduler, std::shared_ptr<MemCatalogue> catalogue);
  ~MemStore() override;

  [[nodiscard]] Task<Result<GetAnswer>> get(std::string key) override;
  [[nodiscard]] Task<Result<TxnAnswer>> txn(Txn txn) override;
  [[nodiscard]] Task<Result<RangeAnswer>> range(RangeRequest request) override;
  [[nodiscard]] Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix,
                                                           std::uint64_t from_revision,
                                                           WatchCallback callback) override;
  [[nodiscard]] Task<Result<void>> restore(Changes changes, std::uint64_t revision) override;

  /// The next calls meet these faults, one each, before chances are drawn again.
  void plan(MemFault fault) { planned_.push_back(fault); }
  /// From now on calls meet faults by chance. `random` outlives the store.
  void set_chances(const MemChances& chances, Random& random);
  /// While down every call is refused.
  void set_down(bool down) noexcept { down_ = down; }
  [[nodiscard]] MemCatalogue& catalogue() noexcept { return *catalogue_; }

 private:
  [[nodiscard]] MemFault draw();
  [[nodiscard]] Task<void> pass_time();
  /// What every call meets on its way in; an error if it gets no further.
  [[nodiscard]] Task<Result<MemFault>> arrive();

  Scheduler& scheduler_;
  std::shared_ptr<MemCatalogue> catalogue_;
  WatchHub hub_;
  MemChances chances_;
  Random* random_ = nullptr;
  std::deque<MemFault> planned_;
  bool down_ = false;
};

}  // namespace vmstore::meta
