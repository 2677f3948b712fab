// SPDX-License-Identifier: Apache-2.0
// A simulated machine with one Node, and clients that speak its protocol frame by frame. The files
// and the catalogue stay, processes come and go.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "meta/mem_store.h"
#include "net/rpc_peer.h"
#include "storaged/identity.h"
#include "storaged/node.h"
#include "tests/support/crash_points.h"
#include "tests/support/memory_files.h"
#include "tests/support/sim_network.h"
#include "tests/support/sim_worker_pool.h"
#include "tests/support/virtual_scheduler.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::storaged::test {

inline constexpr std::uint32_t kNodeUid = 1000;
inline constexpr const char* kEndpoint = "unix:/node.sock";

/// Who a connection's client is, as the node sees it.
struct Who {
  bool same_host = true;
  std::uint32_t uid = kNodeUid;
  std::optional<net::Role> role;   // it came over TLS with such a certificate
  std::vector<std::string> disks;  // that is for these
};

class Machine {
 public:
  explicit Machine(std::uint64_t seed = 1);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Starts a process with the node.
  Result<void> start();
  void start_well();
  /// Ends it in order.
  void stop();
  /// Ends it at once; the host lives.
  void kill();
  [[nodiscard]] bool runs() const noexcept { return node_ != nullptr; }
  [[nodiscard]] Node& node() { return *node_; }
  [[nodiscard]] sim::VirtualScheduler& process() { return *process_; }
  [[nodiscard]] meta::MemStore& node_meta() { return *meta_; }
  template <class T>
  T run(Task<T> task) {
    return sim::run(*process_, std::move(task));
  }
  /// Writes entries behind the clients' backs, as an earlier version or another node would.
  void put_meta(const std::string& key, const std::string& value);
  void remove_meta(const std::string& key);
  [[nodiscard]] std::optional<std::string> get_meta(const std::string& key);

  sim::World world;
  sim::SimNetwork network;
  sim::MemoryFiles files;
  std::shared_ptr<meta::MemCatalogue> catalogue;
  NodeOptions options;
  Who next_client;                               // of connections accepted from now on
  std::vector<meta::MemFault> node_meta_faults;  // what the next start meets
  /// What the node gets in place of its catalogue.
  std::function<meta::MetaStore&(meta::MetaStore&)> wrap_meta;
  std::string dies_at;  // the fault point at which the next start ends

 private:
  [[nodiscard]] Task<void> accept();
  void end_process();
  std::unique_ptr<sim::VirtualScheduler> tools_;  // a process that edits the catalogue
  std::unique_ptr<sim::VirtualScheduler> process_;
  std::unique_ptr<sim::SimWorkerPool> pool_;
  std::unique_ptr<Random> random_;
  std::unique_ptr<meta::MemStore> meta_;
  std::unique_ptr<DataFolder> folder_;
  std::unique_ptr<net::Listener> listener_;
  std::unique_ptr<Node> node_;
};

/// A client process with one connection.
class Client {
 public:
  using Handler = net::RpcPeer::Handler;
  /// Connects; `handler` serves what the node asks.
  Client(Machine& machine, std::string name, Handler handler = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  [[nodiscard]] sim::VirtualScheduler& process() { return *process_; }
  [[nodiscard]] net::RpcPeer& peer() { return *peer_; }
  [[nodiscard]] bool is_ended() const noexcept { return ended_; }
  /// Ends the process at once.
  void kill();
  void disconnect();

  /// Says hello and expects to be let in.
  pb::HelloReply greet();

  Result<wire::Frame> raw(wire::Opcode opcode,
                          std::string control,
                          wire::Payload payload = {},
                          bool own_sums = false);
  template <class Reply, class Request>
  Result<Reply> call(wire::Opcode opcode, const Request& request, wire::Payload payload = {}) {
    const auto frame = raw(opcode, wire::serialize(request), std::move(payload));
    if (!frame) return frame.error();
    return wire::parse<Reply>(frame->control);
  }
  /// The error of a call, or `ok`.
  template <class Request>
  Errc error_of(wire::Opcode opcode, const Request& request, wire::Payload payload = {}) {
    const auto frame = raw(opcode, wire::serialize(request), std::move(payload));
    return frame ? Errc::ok : frame.error().code;
  }
  [[nodiscard]] const std::vector<pb::MetaEvent>& events() const noexcept { return events_; }

 private:
  [[nodiscard]] Task<void> serve();
  [[nodiscard]] Task<net::Answer> on_frame(wire::Frame frame);
  Machine& machine_;
  Handler handler_;
  std::unique_ptr<sim::VirtualScheduler> process_;
  std::unique_ptr<net::Dialer> dialer_;
  std::unique_ptr<net::RpcPeer> peer_;
  std::vector<pb::MetaEvent> events_;
  bool ended_ = false;
};

/// The numbers that every number field must survive.
inline constexpr std::uint64_t kHostileNumbers[] = {0,
                                                    1,
                                                    (std::uint64_t{1} << 31) - 1,
                                                    std::uint64_t{1} << 31,
                                                    (std::uint64_t{1} << 33) - 1,
                                                    std::uint64_t{1} << 33,
                                                    std::uint64_t{1} << 63,
                                                    ~std::uint64_t{0}};

inline KeyId key_number(std::uint64_t n) {
  return *KeyId::make(KeyId::kFirst + n);
}
inline constexpr DiskId kDisk{7, 7};

/// Blocks with recognizable content: equal seeds give equal bytes.
wire::Payload make_blocks(std::size_t count, std::uint64_t seed);

/// The record of a disk, held with `epoch`.
meta::pb::DiskRecord disk_record(DiskId id, const std::string& name, std::uint64_t epoch);

}  // namespace vmstore::storaged::test
