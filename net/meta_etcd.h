// SPDX-License-Identifier: Apache-2.0
// MetaEtcd: the catalogue of a store in an etcd (3.4 or later), through its JSON gateway.
//
// Invariants: every call begins with a compare of the head, so that it is answered from the
// catalogue that was opened or not at all (`unknown`); a get may be stale, so nobody decides by it;
// a change is sent once, and an answer to it that was lost is `timed_out`, `disconnected` or
// `unknown`. A revision is etcd's, moved so that it goes on from the catalogue's base; those of
// other users of that etcd are passed over. An etcd that has gone back (an old backup, or nothing)
// is noticed within kPollPause and serves nothing more.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>

#include "base/sync.h"
#include "meta/meta_store.h"
#include "net/etcd_calls.h"
#include "net/etcd_catalogue.h"

namespace vmstore::net {

/// THREADS: of `io`. Close it before it is destroyed, unless all its tasks were abandoned.
class MetaEtcd final : public meta::MetaStore {
 public:
  /// `not_found`: certainly no catalogue is there · `unknown`: one is being made there ·
  /// `unavailable`, `timed_out`, `disconnected`: no answer · the errors of decode_head().
  [[nodiscard]] static Task<Result<std::unique_ptr<MetaEtcd>>> open(IoThread& io,
                                                                    EtcdOptions options);
  ~MetaEtcd() override;

  [[nodiscard]] Task<Result<meta::GetAnswer>> get(std::string key) override;
  [[nodiscard]] Task<Result<meta::TxnAnswer>> txn(meta::Txn txn) override;
  [[nodiscard]] Task<Result<meta::RangeAnswer>> range(meta::RangeRequest request) override;
  [[nodiscard]] Task<Result<std::unique_ptr<meta::Watch>>> watch(std::string prefix,
                                                                 std::uint64_t from_revision,
                                                                 WatchCallback callback) override;
  [[nodiscard]] bool takes_changes() const noexcept override { return !lost_; }

  /// Every watch was told of all that changed up to `revision`.
  [[nodiscard]] bool is_told(std::uint64_t revision) const;
  [[nodiscard]] const etcd::Head& head() const noexcept { return head_; }
  [[nodiscard]] const etcd::Numbers& numbers() const noexcept { return numbers_; }
  /// Refuses new calls, ends the watches, and waits for the calls under way.
  [[nodiscard]] Task<void> close();

 private:
  struct Follower;
  class Handle;
  using FollowerPtr = std::shared_ptr<Follower>;
  /// What is there now, for certain.
  struct Now {
    std::uint64_t change_at = 0;  // etcd's revision of the newest change
    std::uint64_t etcd = 0;       // etcd's own
    std::uint64_t revision = 0;   // the catalogue's
  };

  MetaEtcd(IoThread& io, EtcdOptions options, const etcd::Head& head, std::uint64_t head_at);
  [[nodiscard]] Task<Result<etcd::TxnReply>> ask(std::vector<std::string> ops,
                                                 EtcdCalls::Kind kind);
  [[nodiscard]] Task<Result<etcd::TxnReply>> ask_of_head(std::vector<std::string> ops,
                                                         EtcdCalls::Kind kind);
  [[nodiscard]] Result<std::uint64_t> newest_in(const etcd::OpReply& op) const;
  [[nodiscard]] Task<Result<meta::RangeAnswer>> range_part(meta::RangeRequest request,
                                                           std::uint32_t limit);
  [[nodiscard]] Task<Result<Now>> read_now();
  [[nodiscard]] Task<Result<void>> begin_stream(FollowerPtr follower);
  [[nodiscard]] Task<Result<void>> check_past(std::uint64_t etcd_revision);
  [[nodiscard]] Task<void> follow(FollowerPtr follower, Gate::Pass pass);
  [[nodiscard]] Result<void> take(Follower& follower, const std::string& line);
  [[nodiscard]] Task<void> resume(FollowerPtr follower, Error error);
  [[nodiscard]] Task<Result<void>> pass_gap(FollowerPtr follower);
  [[nodiscard]] Task<void> poll(Gate::Pass pass);
  void look_at_followers(const Now& now);
  void note(std::uint64_t revision) noexcept;
  void lose(const char* why);

  IoThread& io_;
  EtcdCalls calls_;
  etcd::Head head_;
  etcd::Numbers numbers_;
  std::uint64_t newest_ = 0;  // revision that was answered or told
  bool lost_ = false;
  bool polling_ = false;
  std::list<std::weak_ptr<Follower>> followers_;
  Event stop_;
  Gate gate_;
};

}  // namespace vmstore::net
