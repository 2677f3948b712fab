// SPDX-License-Identifier: Apache-2.0
// Session: one client's connection: hello, who it is, its watches, its requests.
//
// Invariants: nothing but a hello is looked at before the peer is known and allowed; a peer that
// says nothing, or was refused, is closed after limits::kHandshakeTimeout; what is queued for a
// peer that does not read is bounded, then its connection ends (it watches again from the revision
// it has).
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "base/ids.h"
#include "base/result.h"
#include "base/sync.h"
#include "meta/meta_store.h"
#include "net/rpc_peer.h"
#include "storaged/disk_rights.h"
#include "storaged/key_numbers.h"
#include "wire/frame.h"

namespace vmstore::storaged {

class Node;

inline constexpr std::size_t kWatchesMax = 64;        // of one session
inline constexpr std::size_t kWatchEventsMax = 8192;  // queued for one session
// Their bytes: twice what so many records of ordinary disks take.
inline constexpr std::size_t kWatchBytesMax = std::size_t{16} << 20;
inline constexpr std::size_t kRelaysMax = 256;  // calls under way to one holder

/// THREADS: the scheduler's. OWNS: the connection, the watches. Made by Node::serve().
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Node& node, SessionId id, std::unique_ptr<net::Connection> connection);
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();

  /// Serves until the connection ends, then ends leases and watches.
  [[nodiscard]] Task<void> run();
  void close() noexcept { peer_.close(); }

  [[nodiscard]] SessionId id() const noexcept { return id_; }
  [[nodiscard]] const std::string& program() const noexcept { return program_; }
  [[nodiscard]] std::uint32_t pid() const noexcept { return pid_; }
  [[nodiscard]] bool same_host() const noexcept { return credentials_.same_host; }
  /// REQUIRES: a request is served: nobody without a role gets that far.
  [[nodiscard]] net::Role role() const noexcept { return *role_; }
  [[nodiscard]] const DiskRights& disks() const noexcept { return disks_; }
  [[nodiscard]] KeyNumbers::Asker& draws() noexcept { return draws_; }
  [[nodiscard]] bool is_closed() const noexcept { return ended_ || peer_.is_closed(); }
  [[nodiscard]] TimePoint last_heard() const noexcept { return peer_.last_heard(); }

  /// What the client has still to free of the disk, as it said itself.
  void note_garbage(DiskId disk, std::uint64_t blocks);
  [[nodiscard]] std::uint64_t garbage_blocks() const noexcept;

  /// Asks the client at the other end, for disk_call. `busy` when too many calls are under way.
  [[nodiscard]] Task<Result<wire::Frame>> ask(wire::Opcode opcode,
                                              std::string control,
                                              TimePoint deadline);

  /// Starts a watch whose events go to the client. Returns its number; the first event is sent
  /// after the answer that carries the number.
  [[nodiscard]] Task<Result<std::uint64_t>> start_watch(std::string prefix,
                                                        std::uint64_t from_revision);
  /// Unknown numbers are ignored: the watch is gone already.
  void end_watch(std::uint64_t watch) noexcept;

 private:
  struct Outgoing;
  [[nodiscard]] Task<net::Answer> handle(wire::Frame request);
  [[nodiscard]] Task<net::Answer> dispatch(wire::Frame request);
  [[nodiscard]] net::Answer hello(const wire::Frame& request);
  [[nodiscard]] Task<void> end_if_silent();
  [[nodiscard]] Task<void> send_events();
  void queue_event(std::uint64_t watch, const meta::Event& event);
  void let_through(std::uint64_t watch);

  Node& node_;
  SessionId id_;
  net::PeerCredentials credentials_;
  std::optional<net::Role> role_;  // none: refused
  DiskRights disks_;
  std::string program_;
  std::uint32_t pid_ = 0;
  bool greeted_ = false;
  bool ended_ = false;
  std::size_t relays_ = 0;
  std::unordered_map<DiskId, std::uint64_t> garbage_blocks_;  // only disks whose keys it may free

  struct WatchState {
    std::unique_ptr<meta::Watch> watch;
    bool open = false;                // the client knows the number
    std::deque<std::string> waiting;  // encoded events from before
  };
  std::uint64_t last_watch_ = 0;
  std::unordered_map<std::uint64_t, WatchState> watches_;
  std::deque<std::string> events_;
  std::size_t events_queued_ = 0;  // and waiting
  std::size_t event_bytes_ = 0;
  Event events_changed_;
  Event greeted_event_;
  Gate tasks_;  // send_events, end_if_silent
  KeyNumbers::Asker draws_;
  net::RpcPeer peer_;
};

}  // namespace vmstore::storaged
