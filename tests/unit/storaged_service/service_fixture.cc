// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/storaged_service/service_fixture.h"

#include <utility>

#include "base/limits.h"
#include "base/random.h"
#include "meta/records.h"
#include "storaged/session.h"

namespace vmstore::storaged::test {
namespace {

constexpr std::uint64_t kJournalBytes = 8 * limits::kMiB;

/// A connection whose other end is who the test says.
class IdentifiedConnection final : public net::Connection {
 public:
  IdentifiedConnection(std::unique_ptr<net::Connection> inner, Who who)
      : inner_(std::move(inner)), who_(std::move(who)) {}
  Task<Result<void>> send(const wire::Frame& frame) override { return inner_->send(frame); }
  Task<Result<wire::Frame>> receive() override { return inner_->receive(); }
  void close() noexcept override { inner_->close(); }
  [[nodiscard]] net::PeerCredentials peer() const noexcept override {
    net::PeerCredentials credentials = inner_->peer();
    credentials.same_host = who_.same_host;
    credentials.uid = who_.uid;
    if (who_.role) {
      credentials.same_host = false;
      net::CertificateName name;
      name.role = *who_.role;
      name.disks = who_.disks;
      credentials.certificate = std::make_shared<const net::CertificateName>(std::move(name));
    }
    return credentials;
  }
  [[nodiscard]] bool is_peer_gone() const noexcept override {
    return who_.same_host && inner_->is_peer_gone();
  }

 private:
  std::unique_ptr<net::Connection> inner_;
  Who who_;
};

}  // namespace

Machine::Machine(std::uint64_t seed)
    : world(seed),
      network(world),
      files(sim::MemoryFiles::kUnlimited, seed),
      catalogue(std::make_shared<meta::MemCatalogue>()),
      tools_(std::make_unique<sim::VirtualScheduler>(world, "tools")) {
  network.set_same_host(true);  // Who says otherwise for a connection
  options.journal_bytes = kJournalBytes;
  options.own_uid = kNodeUid;
  options.data_folder = "/data";
  options.version = "test";
  options.collect_by_itself = false;
}

Machine::~Machine() {
  if (process_) kill();
}

Result<void> Machine::start() {
  process_ = std::make_unique<sim::VirtualScheduler>(world, "node");
  process_->on_freeze([this] { files.freeze(); });
  pool_ = std::make_unique<sim::SimWorkerPool>(world);
  random_ = std::make_unique<Random>(world.random().u64());
  meta_ = std::make_unique<meta::MemStore>(*process_, catalogue);
  for (const meta::MemFault fault : std::exchange(node_meta_faults, {})) meta_->plan(fault);
  auto folder = DataFolder::open(files, DataFolder::Missing::create, *random_);
  if (!folder) {
    end_process();
    return folder.error();
  }
  folder_ = std::move(*folder);
  meta::MetaStore& used = wrap_meta ? wrap_meta(*meta_) : *meta_;
  const NodeParts parts{*process_, *pool_, files, *folder_, used, *random_};
  node_ = std::make_unique<Node>(parts, options);
  std::optional<sim::CrashPoints> crash;
  if (!dies_at.empty()) {
    crash.emplace(world);
    crash->arm(*process_, std::exchange(dies_at, {}), 1);
  }
  sim::Running<Result<void>> starting(*process_, node_->start());
  const bool ended = starting.wait(std::chrono::hours(1));
  const Result<void> started = ended ? starting.outcome() : Errc::closing;
  if (!started) {
    end_process();
    return started;
  }
  listener_ = network.listen(*process_, kEndpoint);
  process_->spawn(accept());
  return started;
}

void Machine::start_well() {
  const auto started = start();
  ASSERT_TRUE(started) << to_string(started.error());
}

Task<void> Machine::accept() {
  for (;;) {
    auto connection = co_await listener_->accept();
    if (!connection) co_return;
    node_->serve(std::make_unique<IdentifiedConnection>(std::move(*connection), next_client));
  }
}

void Machine::stop() {
  listener_->close();
  sim::run(*process_, node_->stop());
  end_process();
}

void Machine::kill() {
  process_->freeze();
  end_process();
}

void Machine::end_process() {
  process_->kill();
  node_.reset();
  listener_.reset();
  folder_.reset();
  meta_.reset();
  pool_.reset();
  process_.reset();
  files.restart();
}

void Machine::put_meta(const std::string& key, const std::string& value) {
  meta::MemStore store(*tools_, catalogue);
  meta::Txn txn;
  txn.then_ops.push_back(meta::Op{key, value});
  const auto done = sim::run(*tools_, store.txn(std::move(txn)));
  ASSERT_TRUE(done);
}

void Machine::remove_meta(const std::string& key) {
  meta::MemStore store(*tools_, catalogue);
  meta::Txn txn;
  txn.then_ops.push_back(meta::Op{key, std::nullopt});
  const auto done = sim::run(*tools_, store.txn(std::move(txn)));
  ASSERT_TRUE(done);
}

std::optional<std::string> Machine::get_meta(const std::string& key) {
  meta::MemStore store(*tools_, catalogue);
  const auto found = sim::run(*tools_, store.get(key));
  if (!found || !found->entry) return std::nullopt;
  return found->entry->value;
}

// ---- clients ----

Client::Client(Machine& machine, std::string name, Handler handler)
    : machine_(machine),
      handler_(std::move(handler)),
      process_(std::make_unique<sim::VirtualScheduler>(machine.world, std::move(name))),
      dialer_(machine.network.dialer(*process_)) {
  auto connection = sim::run(*process_, dialer_->dial(net::Endpoint{kEndpoint}));
  EXPECT_TRUE(connection);
  peer_ =
      std::make_unique<net::RpcPeer>(*process_, std::move(*connection), [this](wire::Frame frame) {
        return on_frame(std::move(frame));
      });
  process_->spawn(serve());
}

Client::~Client() {
  if (process_) kill();
}

void Client::kill() {
  process_->kill();
  peer_.reset();
  dialer_.reset();
  process_.reset();
  ended_ = true;
}

void Client::disconnect() {
  peer_->close();
  machine_.world.run_until([this] { return ended_; }, std::chrono::seconds(1));
}

Task<void> Client::serve() {
  static_cast<void>(co_await peer_->run());
  ended_ = true;
}

Task<net::Answer> Client::on_frame(wire::Frame frame) {
  if (frame.header.opcode == wire::Opcode::meta_event) {
    auto event = wire::parse<pb::MetaEvent>(frame.control);
    EXPECT_TRUE(event);
    events_.push_back(std::move(*event));
    co_return net::Answer();
  }
  if (handler_) co_return co_await handler_(std::move(frame));
  net::Answer answer;
  answer.status = Errc::unsupported;
  co_return answer;
}

pb::HelloReply Client::greet() {
  pb::HelloRequest request;
  request.set_version_min(1);
  request.set_version_max(1);
  request.set_program(process_->name());
  request.set_pid(process_->pid());
  const auto reply = call<pb::HelloReply>(wire::Opcode::hello, request);
  EXPECT_TRUE(reply) << to_string(reply.error());
  return reply ? *reply : pb::HelloReply();
}

Result<wire::Frame> Client::raw(wire::Opcode opcode,
                                std::string control,
                                wire::Payload payload,
                                bool own_sums) {
  return sim::run(*process_, peer_->call(opcode, std::move(control), std::move(payload), own_sums));
}

// ---- content ----

wire::Payload make_blocks(std::size_t count, std::uint64_t seed) {
  wire::Payload payload = wire::Payload::allocate(count * kBlockBytes);
  Random random(seed + 1);
  for (std::byte& byte : payload.writable()) byte = static_cast<std::byte>(random.u64());
  return payload;
}

meta::pb::DiskRecord disk_record(DiskId id, const std::string& name, std::uint64_t epoch) {
  meta::pb::DiskRecord record;
  *record.mutable_id() = meta::to_pb(id);
  record.set_name(name);
  record.set_size_bytes(limits::kGiB);
  record.set_epoch(epoch);
  record.set_state(epoch == 0 ? meta::pb::DiskRecord::released : meta::pb::DiskRecord::held);
  record.set_copies(1);
  record.set_min_copies(1);
  return record;
}

}  // namespace vmstore::storaged::test
