// SPDX-License-Identifier: Apache-2.0
// MetaRemote: the catalogue of a store through a node's metadata API. Part of NodeClient.
//
// Invariants: a lost answer is an error that says so (`disconnected`, `timed_out`), never "absent".
// A watch survives the loss of its session: in the next one it is asked for again from the last
// revision of which something was told, and what was told of it already is skipped; so each change
// is told once, in revision order, also when a session ends between two changes of one revision.
// When the changes since then are compacted away, the watch is told what is there now instead, and
// the log says that removals may have been missed.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/scheduler.h"
#include "meta/meta_store.h"
#include "wire/frame.h"

namespace vmstore::net {

/// What MetaRemote needs of its session.
class MetaTransport {
 public:
  virtual ~MetaTransport() = default;
  [[nodiscard]] virtual Task<Result<wire::Frame>> ask(wire::Opcode opcode, std::string control) = 0;
  /// Says that the node sent nonsense; the session ends. The outcome is unknown: `disconnected`.
  [[nodiscard]] virtual Error broken(wire::Opcode opcode) = 0;
};

/// THREADS: the scheduler's.
class MetaRemote final : public meta::MetaStore {
 public:
  /// `transport` is used until close().
  MetaRemote(Scheduler& scheduler, MetaTransport& transport);
  ~MetaRemote() override;

  [[nodiscard]] Task<Result<meta::GetAnswer>> get(std::string key) override;
  [[nodiscard]] Task<Result<meta::TxnAnswer>> txn(meta::Txn txn) override;
  [[nodiscard]] Task<Result<meta::RangeAnswer>> range(meta::RangeRequest request) override;
  [[nodiscard]] Task<Result<std::unique_ptr<meta::Watch>>> watch(std::string prefix,
                                                                 std::uint64_t from_revision,
                                                                 WatchCallback callback) override;

  /// An event frame of the node.
  void on_event(const std::string& control);
  /// The session is over: numbers of watches mean nothing any more.
  void session_lost();
  /// A new session is up: every watch is asked for again.
  void session_up();
  /// No more events, no more use of the transport.
  void close() noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the watches and the tasks
};

}  // namespace vmstore::net
