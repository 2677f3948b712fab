// SPDX-License-Identifier: Apache-2.0
// NodeClient: one session to one vmstored, as typed calls. Reconnects by itself; what was under way
// when the connection broke returns `disconnected` (outcome unknown) and its caller decides.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/sync.h"
#include "meta/meta_store.h"
#include "net/connection.h"
#include "net/rpc_peer.h"
#include "wire/record.h"

namespace vmstore::pb {
class DiskCallRequest;
class DiskCallReply;
class NodeStatusReply;
class GcRunReply;
class KeyInfoReply;
class KeyRepairReply;
class KeyRepairRequest;
}  // namespace vmstore::pb

namespace vmstore::net {

/// The node was not reached or its answer is missing: to be asked again once there is a connection.
[[nodiscard]] constexpr bool is_connection_trouble(const Error& error) noexcept {
  return error == Errc::disconnected || error == Errc::timed_out || error == Errc::unavailable;
}

struct SessionInfo {
  StoreId store;
  NodeId node;
  Incarnation incarnation;
  std::uint64_t start_count = 0;
  SessionId session;
  bool same_host = false;
  std::string certificate;  // name in the one that the node shows over TLS, else empty
};

struct ClientOptions {
  Endpoint endpoint;
  std::vector<Endpoint> more;  // of the same store: tried in turn when there is no session there
  std::string program;         // for people: "nbdkit-vmstore vm1"
  BootId boot;
  std::uint32_t pid = 0;
  std::optional<StoreId> store;               // refuse any other store
  std::optional<NodeId> node;                 // take any other node there for an absent one
  std::string certificate;                    // and one that shows another name over TLS
  std::chrono::milliseconds retry_first{20};  // reconnect pause, doubled up to retry_last
  std::chrono::milliseconds retry_last{1000};
};

struct FenceAnswer {
  KeyLength length;
  bool sealed = false;
  Sequence committed;
  Incarnation incarnation;
  std::vector<std::byte> last_record;
};

struct ReadRange {
  Address address;
  std::uint32_t blocks = 0;
};
struct ReadBlocks {
  wire::Payload payload;            // the blocks, in the order asked
  std::vector<std::uint64_t> sums;  // already verified against the payload
};
struct LogBytes {
  wire::Payload bytes;
  std::uint64_t log_bytes = 0;  // how far the log reaches in all
  bool sealed = false;
};
struct KeyFiles {
  int data_fd = -1;  // owned by the caller
  int sums_fd = -1;
  KeyLength length;
};
struct HolderInfo {
  bool held = false;
  Epoch epoch;
  SessionId session;
  std::string program;
  std::uint32_t pid = 0;
  Duration lease_left{0};
};
struct DiskCallAnswer {
  std::unique_ptr<pb::DiskCallReply> reply;
  wire::Payload payload;
};

/// THREADS: the scheduler's.
class NodeClient {
 public:
  /// Called for disk_call requests relayed to us as the holder of a disk.
  using DiskCallHandler =
      std::function<Task<Result<DiskCallAnswer>>(DiskId, std::unique_ptr<pb::DiskCallRequest>)>;

  NodeClient(Scheduler& scheduler, Dialer& dialer, ClientOptions options);
  NodeClient(const NodeClient&) = delete;
  NodeClient& operator=(const NodeClient&) = delete;
  ~NodeClient();

  void set_disk_call_handler(DiskCallHandler handler);
  /// Where else a session may be had, behind the endpoints of the options: each in turn after a
  /// loss.
  void set_alternatives(std::vector<Endpoint> endpoints);
  /// Starts connecting, and goes on after each loss, until stop().
  void start();
  [[nodiscard]] Task<void> stop();
  /// Waits until a session is up; `timed_out` at the deadline, or the refusal that makes trying
  /// again pointless (`foreign_store`, `newer_format`, `permission`).
  [[nodiscard]] Task<Result<SessionInfo>> wait_connected(std::optional<TimePoint> deadline = {});
  [[nodiscard]] bool is_connected() const noexcept;
  /// The node of the newest session; none before the first.
  [[nodiscard]] NodeId node() const noexcept;
  /// As in SessionInfo.
  [[nodiscard]] const std::string& certificate() const noexcept;
  /// Rises with every new session; whoever holds disks registers them again when it changed.
  [[nodiscard]] std::uint64_t session_count() const noexcept;
  /// Resumes when the session is lost or a new one is up.
  [[nodiscard]] Event& session_changed() noexcept;

  // Keys. All return `disconnected` at once when there is no session.
  /// The first of `count` (at most limits::kKeyDrawMax) fresh key numbers in a row. An answer that
  /// is lost wastes them: nobody gets them again.
  [[nodiscard]] Task<Result<std::uint64_t>> draw_keys(std::uint64_t count);
  [[nodiscard]] Task<Result<Incarnation>> create_key(KeyId key,
                                                     DiskId disk,
                                                     Epoch token,
                                                     std::vector<std::byte> header_record,
                                                     std::uint32_t copies);
  /// `record` is the encoded header, `blocks` its stored blocks.
  [[nodiscard]] Task<Result<KeyLength>> append(KeyId key,
                                               Epoch token,
                                               Sequence sequence,
                                               std::uint64_t log_offset,
                                               BlockIndex data_offset,
                                               Sequence committed,
                                               std::vector<std::byte> record,
                                               wire::Payload blocks);
  [[nodiscard]] Task<Result<FenceAnswer>> fence(KeyId key, Epoch token);
  [[nodiscard]] Task<Result<KeyLength>> seal(KeyId key, Epoch token, KeyLength length);
  [[nodiscard]] Task<Result<std::unique_ptr<pb::KeyInfoReply>>> key_info(KeyId key);
  /// See BlockStore::repair().
  [[nodiscard]] Task<Result<std::unique_ptr<pb::KeyRepairReply>>> repair_key(
      std::unique_ptr<pb::KeyRepairRequest> request);
  /// At most limits::kReadBlocksMax blocks in all.
  [[nodiscard]] Task<Result<ReadBlocks>> read(std::vector<ReadRange> ranges);
  [[nodiscard]] Task<Result<LogBytes>> read_log(KeyId key,
                                                std::uint64_t log_offset,
                                                std::uint32_t bytes_max,
                                                Epoch token = Epoch());
  /// Space is allocated so that the key can grow to these totals; answers what is allocated.
  [[nodiscard]] Task<Result<KeyLength>> reserve(KeyId key,
                                                Epoch token,
                                                BlockIndex data_blocks,
                                                std::uint64_t log_bytes);
  struct FreeRun {
    BlockIndex first;
    std::uint64_t blocks = 0;
  };
  /// For the node's metrics.
  struct FreeReport {
    std::uint64_t garbage_blocks = 0;  // that the owner has still to free after this
    Duration slowed{0};                // that writers waited for frees since the last report
  };
  [[nodiscard]] Task<Result<void>> free_blocks(
      KeyId key, Epoch token, DiskId disk, std::vector<FreeRun> runs, FreeReport report);
  [[nodiscard]] Task<Result<void>> committed(KeyId key, Epoch token, Sequence committed);
  /// Read-only descriptors for the local short cut; `unsupported` off this host.
  [[nodiscard]] Task<Result<KeyFiles>> key_files(KeyId key);

  // Ownership.
  [[nodiscard]] Task<Result<void>> hold(DiskId disk, Epoch epoch);
  /// Of those the ones that this session does not hold, as far as the node knows without the
  /// catalogue.
  [[nodiscard]] Task<Result<std::vector<DiskId>>> renew(std::vector<DiskId> disks);
  [[nodiscard]] Task<Result<void>> release(DiskId disk, Epoch epoch);
  /// `here_only`: as far as this node alone knows.
  [[nodiscard]] Task<Result<HolderInfo>> holder(DiskId disk, bool here_only = false);
  /// A request for somebody else, passed on as it is, and its answer.
  [[nodiscard]] Task<Result<wire::Frame>> relay(wire::Opcode opcode,
                                                std::string control,
                                                std::optional<TimePoint> deadline);
  /// Asks the disk's holder; `not_owner` when nobody holds it.
  [[nodiscard]] Task<Result<DiskCallAnswer>> call_holder(const pb::DiskCallRequest& request,
                                                         std::optional<TimePoint> deadline = {});

  // Node.
  [[nodiscard]] Task<Result<std::unique_ptr<pb::NodeStatusReply>>> status();
  [[nodiscard]] Task<Result<std::unique_ptr<pb::GcRunReply>>> run_gc(bool dry_run);

  /// The metadata of the store, served by the node (net/meta_remote). Lives as long as this client.
  [[nodiscard]] meta::MetaStore& meta() noexcept;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the tasks of this client
};

}  // namespace vmstore::net
