// SPDX-License-Identifier: Apache-2.0
// MetaRemote: the catalogue of a store through a node's metadata API. Part of NodeClient.
//
// Invariants: a lost answer is an error that says so (`disconnected`, `timed_out`), never "absent";
// a watch survives the loss of its session: it is asked for again from the revision after the last
// one it has told completely, so nothing is skipped; `compacted` there ends it with an event storm
// of nobody: the owner is told through its error callback.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "base/sync.h"
#include "meta/meta_store.h"
#include "wire/frame.h"

namespace vmstore::net {

/// What MetaRemote needs of its session.
class MetaTransport {
 public:
  virtual ~MetaTransport() = default;
  [[nodiscard]] virtual Task<Result<wire::Frame>> ask(wire::Opcode opcode, std::string control) = 0;
};

/// THREADS: the scheduler's.
class MetaRemote final : public meta::MetaStore {
 public:
  explicit MetaRemote(Scheduler& scheduler, MetaTransport& transport);
  ~MetaRemote() override;

  [[nodiscard]] Task<Result<meta::GetAnswer>> get(std::string key) override;
  [[nodiscard]] Task<Result<meta::TxnAnswer>> txn(meta::Txn txn) override;
  [[nodiscard]] Task<Result<meta::RangeAnswer>> range(meta::RangeRequest request) override;
  [[nodiscard]] Task<Result<std::unique_ptr<meta::Watch>>> watch(std::string prefix,
                                                                 std::uint64_t from_revision,
                                                                 WatchCallback callback) override;

  /// An event frame of the node.
  void on_event(const std::string& control);
  /// A new session is up: subscribe every watch again.
  [[nodiscard]] Task<void> resubscribe();

 private:
  struct Subscription {
    std::string prefix;
    std::uint64_t next_revision = 0;
    std::uint64_t number = 0;  // the node's, of this session; 0 = not subscribed
    WatchCallback callback;
  };
  class RemoteWatch;
  [[nodiscard]] Task<Result<void>> subscribe(std::shared_ptr<Subscription> subscription);

  MetaTransport& transport_;
  Gate gate_;
  std::map<std::uint64_t, std::shared_ptr<Subscription>> all_;  // by local number
  std::uint64_t last_number_ = 0;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace vmstore::net
