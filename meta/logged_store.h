// SPDX-License-Identifier: Apache-2.0
// LoggedStore: a MetaStore whose every answer is in this node's catalogue log first [C14].
//
// A change goes to the backend, comes back by the backend's watch, goes to the log, is synced
// there, and only then is it answered, read or told to a watch. So the log is a whole copy of the
// catalogue at its revision, and nothing anybody has seen can be missing from it.
// docs/format/catalogue_log.md has the cases of a crash in between.
//
// Invariants: no answer shows a revision above logged_revision(); the log's revision never falls
// behind what was answered, nor does the backend's (`unknown`, until the node is started anew).
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <string>

#include "base/files.h"
#include "base/scheduler.h"
#include "base/sync.h"
#include "base/worker_pool.h"
#include "meta/catalogue_log.h"
#include "meta/make_room.h"
#include "meta/restorable_store.h"

namespace vmstore::meta {

/// What to do about the log at the start.
enum class LogStart {
  need,          // it must be there and agree
  make_missing,  // a node that joins has none yet
  replace,       // the operator says that the store is right: the old log is kept as `<path>.old`
};

/// THREADS: the scheduler's. Close it before it is destroyed, unless all its tasks were abandoned.
class LoggedStore final : public MetaStore {
 public:
  struct Parts {
    Scheduler& scheduler;
    WorkerPool& pool;
    Files& files;
    std::string path;  // of the log, below `files`
    MetaStore& backend;
    RestorableStore* restorable = nullptr;  // the backend, if it may be given back what it lost
    MakeRoom make_room = {};                // for the log
  };
  /// Makes both agree, then follows the backend. `not_found`: no log · `foreign_store`: the log is
  /// of another store or catalogue · `unknown`: damaged, contradicting, or the backend has lost
  /// changes and cannot be given them · what the backend answers.
  [[nodiscard]] static Task<Result<std::unique_ptr<LoggedStore>>> open(Parts parts, LogStart start);
  ~LoggedStore() override;

  [[nodiscard]] Task<Result<GetAnswer>> get(std::string key) override;
  /// `unknown` also when the change was made but could not be logged.
  [[nodiscard]] Task<Result<TxnAnswer>> txn(Txn txn) override;
  [[nodiscard]] Task<Result<RangeAnswer>> range(RangeRequest request) override;
  [[nodiscard]] Task<Result<std::unique_ptr<Watch>>> watch(std::string prefix,
                                                           std::uint64_t from_revision,
                                                           WatchCallback callback) override;
  /// False from a failure of the log, or a gap in what the backend told, until it has made itself a
  /// new one.
  [[nodiscard]] bool takes_changes() const noexcept override { return !failed_; }

  /// Everything up to it is on stable storage here.
  [[nodiscard]] std::uint64_t logged_revision() const noexcept { return logged_; }
  /// Waits until `revision` is logged: what another node asks before it answers a change.
  [[nodiscard]] Task<Result<void>> wait_logged(std::uint64_t revision);
  /// Refuses new calls and waits for those under way. The backend stays open.
  [[nodiscard]] Task<void> close();

 private:
  class HeldWatch;
  explicit LoggedStore(Parts parts);
  [[nodiscard]] Task<Result<void>> start(LogStart start);
  [[nodiscard]] Task<Result<Image>> open_log(LogStart start, const Image& store);
  [[nodiscard]] Task<Result<void>> make_log(const Image& image);
  [[nodiscard]] Task<Result<void>> agree(Image log, Image store);
  [[nodiscard]] Task<Result<void>> append(Changes changes, std::uint64_t revision);
  [[nodiscard]] Task<Result<void>> settle(std::uint64_t floor, std::uint64_t revision);
  void on_event(const Event& event);
  void start_loop();
  [[nodiscard]] Task<void> log_loop(Gate::Pass pass);
  [[nodiscard]] Task<void> repair_loop(Gate::Pass pass);
  [[nodiscard]] Task<void> compact_log();
  [[nodiscard]] Changes take_group();
  void set_logged(std::uint64_t revision);
  void fail();

  Parts parts_;
  std::unique_ptr<CatalogueLog> log_;
  std::unique_ptr<Watch> follow_;
  std::deque<Event> pending_;  // told by the backend, not logged; whole revisions
  std::uint64_t logged_ = 0;
  std::uint64_t floor_ = 0;  // up to here changes were missed: a log of less is not whole
  bool looping_ = false;
  bool failed_ = false;
  bool lacks_room_ = false;  // that is why
  std::list<std::weak_ptr<HeldWatch>> watches_;
  vmstore::Event progress_;
  Gate requests_;
  Gate loops_;  // closed after the requests, which wait for them
};

}  // namespace vmstore::meta
