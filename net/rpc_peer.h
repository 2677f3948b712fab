// SPDX-License-Identifier: Apache-2.0
// RpcPeer: requests, out-of-order answers and one-way frames in both directions over one
// Connection. Both ends are the same class: a node also asks its clients (disk_call).
//
// Invariants: every call() returns exactly once, with the answer or an error; after the connection
// ended every pending call got `disconnected` (outcome unknown); requests served at once are
// bounded in number and in bytes, and when the bound is reached the next request is not read before
// one of them ended; requests start in the order they came (a ping at once); an answer to an
// unknown request id, repeated, or to another opcode, ends the connection. Descriptors travel with
// answers only: those of requests are closed.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/ids.h"
#include "base/sync.h"
#include "net/connection.h"
#include "wire/frame.h"

namespace vmstore::net {

/// What a served request answers.
struct Answer {
  Errc status = Errc::ok;
  std::string control;
  wire::Payload payload;
  bool payload_has_own_sums = false;
  std::vector<int> descriptors;  // duplicated by the kernel; the server keeps its own
};

/// THREADS: the scheduler's. OWNS: the connection.
class RpcPeer {
 public:
  /// Serves one request or one-way frame (whose answer is dropped).
  using Handler = std::function<Task<Answer>(wire::Frame request)>;

  RpcPeer(Scheduler& scheduler, std::unique_ptr<Connection> connection, Handler handler);
  RpcPeer(const RpcPeer&) = delete;
  RpcPeer& operator=(const RpcPeer&) = delete;
  /// REQUIRES: run(), if it was started, has returned or was abandoned.
  ~RpcPeer();

  /// Reads frames until the connection ends or close(); spawn it once. Returns why it ended, after
  /// every handler it started has returned.
  /// REQUIRES: called once.
  [[nodiscard]] Task<Error> run();

  /// Sends a request and waits for its answer (the frame's header.status tells the peer's verdict,
  /// returned here as the Error). `timed_out` at the deadline: the outcome is unknown and a late
  /// answer is dropped. Waits while limits::kRequestsInFlightMax requests are unanswered. The
  /// descriptors of the answer belong to the caller.
  [[nodiscard]] Task<Result<wire::Frame>> call(wire::Opcode opcode,
                                               std::string control,
                                               wire::Payload payload = {},
                                               bool payload_has_own_sums = false,
                                               std::optional<TimePoint> deadline = {});
  /// Returns when the kernel has taken the frame: a peer that does not read pauses the sender.
  [[nodiscard]] Task<Result<void>> send_one_way(wire::Opcode opcode, std::string control);

  void close() noexcept;
  [[nodiscard]] bool is_closed() const noexcept;
  /// Why it is over. REQUIRES: is_closed().
  [[nodiscard]] Error end_reason() const noexcept;
  /// Set once the connection is over; handlers may still be at work.
  [[nodiscard]] Event& closed() noexcept;
  [[nodiscard]] PeerCredentials peer() const noexcept;
  /// See Connection.
  [[nodiscard]] bool is_peer_gone() const noexcept;
  /// When the last frame of any kind arrived.
  [[nodiscard]] TimePoint last_heard() const noexcept;
  /// Requests sent and not answered.
  [[nodiscard]] std::size_t unanswered() const noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the tasks it started
};

}  // namespace vmstore::net
