// SPDX-License-Identifier: Apache-2.0
#include "net/node_client.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/checksum.h"
#include "base/limits.h"
#include "base/log.h"
#include "net/meta_remote.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::net {
namespace {

/// After these there is no use in dialling again.
bool is_final(const Error& error) noexcept {
  return error == Errc::foreign_store || error == Errc::newer_format || error == Errc::permission ||
         error == Errc::unsupported;
}

void close_all(const std::vector<int>& descriptors) noexcept {
  for (const int descriptor : descriptors) ::close(descriptor);
}

}  // namespace

struct NodeClient::State final : public MetaTransport {
  State(Scheduler& s, Dialer& d, ClientOptions o)
      : scheduler(s),
        dialer(d),
        options(std::move(o)),
        remote_meta(s, *this),
        gate(s),
        stopping(s),
        changed(s),
        ended(s) {}

  [[nodiscard]] Task<Result<wire::Frame>> ask(wire::Opcode opcode, std::string control) override {
    return call(opcode, std::move(control), wire::Payload(), false, std::nullopt);
  }
  [[nodiscard]] Task<Result<wire::Frame>> call(wire::Opcode opcode,
                                               std::string control,
                                               wire::Payload payload,
                                               bool own_sums,
                                               std::optional<TimePoint> deadline);
  template <class Reply, class Request>
  [[nodiscard]] Task<Result<Reply>> exchange(wire::Opcode opcode, Request request) {
    VMS_CO_TRY(const auto frame, co_await ask(opcode, wire::serialize(request)));
    close_all(frame.descriptors);
    co_return wire::parse<Reply>(frame.control);
  }
  [[nodiscard]] Task<void> run();
  [[nodiscard]] Task<void> run_peer(std::shared_ptr<RpcPeer> running);
  [[nodiscard]] Task<Result<SessionInfo>> hello(RpcPeer& connected);
  [[nodiscard]] Task<Answer> serve(wire::Frame request);

  Scheduler& scheduler;
  Dialer& dialer;
  ClientOptions options;
  MetaRemote remote_meta;
  DiskCallHandler on_disk_call;
  Gate gate;
  Event stopping;
  Event changed;
  Event ended;  // the current peer's run() has returned
  std::shared_ptr<RpcPeer> peer;
  bool connected = false;
  SessionInfo info;
  std::uint64_t sessions = 0;
  std::optional<Error> refusal;
};

NodeClient::NodeClient(Scheduler& scheduler, Dialer& dialer, ClientOptions options)
    : state_(std::make_unique<State>(scheduler, dialer, std::move(options))) {}
NodeClient::~NodeClient() = default;

void NodeClient::set_disk_call_handler(DiskCallHandler handler) {
  state_->on_disk_call = std::move(handler);
}
bool NodeClient::is_connected() const noexcept {
  return state_->connected;
}
std::uint64_t NodeClient::session_count() const noexcept {
  return state_->sessions;
}
Event& NodeClient::session_changed() noexcept {
  return state_->changed;
}
meta::MetaStore& NodeClient::meta() noexcept {
  return state_->remote_meta;
}

// ---- the session ----

void NodeClient::start() {
  state_->scheduler.spawn(state_->run());
}

Task<void> NodeClient::stop() {
  state_->stopping.set();
  if (state_->peer != nullptr) state_->peer->close();
  state_->changed.pulse();
  co_await state_->gate.close();
}

Task<void> NodeClient::State::run_peer(std::shared_ptr<RpcPeer> running) {
  const auto pass = gate.enter();
  const Error why = co_await running->run();
  if (!stopping.is_set()) {
    VMS_LOG(debug, "net", "session with " << options.endpoint.text << " ended: " << to_string(why));
  }
  if (peer == running) {
    connected = false;
    peer.reset();
    ended.set();
    changed.pulse();
  }
}

Task<Result<SessionInfo>> NodeClient::State::hello(RpcPeer& to) {
  pb::HelloRequest request;
  request.set_version_min(wire::kWireVersionOldest);
  request.set_version_max(wire::kWireVersion);
  request.set_program(options.program);
  wire::put_id(*request.mutable_boot_id(), options.boot);
  request.set_pid(options.pid);
  if (options.store) wire::put_id(*request.mutable_store_id(), *options.store);
  const TimePoint deadline = scheduler.now() + Duration(limits::kHandshakeTimeout);
  VMS_CO_TRY(const auto frame,
             co_await to.call(
                 wire::Opcode::hello, wire::serialize(request), wire::Payload(), false, deadline));
  VMS_CO_TRY(const auto reply, wire::parse<pb::HelloReply>(frame.control));
  if (reply.version() < wire::kWireVersionOldest || reply.version() > wire::kWireVersion) {
    co_return Errc::newer_format;
  }
  SessionInfo session;
  session.store = wire::get_id<StoreId>(reply.store_id());
  session.node = wire::get_id<NodeId>(reply.node_id());
  session.incarnation = wire::get_id<Incarnation>(reply.incarnation());
  session.start_count = reply.start_count();
  session.session = SessionId(reply.session());
  session.same_host = reply.same_host();
  // A store that changed under a living client is another store: nothing it says may be believed.
  if (sessions > 0 && session.store != info.store) co_return Errc::foreign_store;
  co_return session;
}

Task<void> NodeClient::State::run() {
  const auto pass = gate.enter();
  auto pause = options.retry_first;
  while (pass && !stopping.is_set()) {
    auto dialled = co_await dialer.dial(options.endpoint);
    if (dialled && !stopping.is_set()) {
      ended.reset();
      const auto opened =
          std::make_shared<RpcPeer>(scheduler, std::move(*dialled), [this](wire::Frame request) {
            return serve(std::move(request));
          });
      peer = opened;
      scheduler.spawn(run_peer(opened));
      const auto greeted = co_await hello(*opened);
      if (greeted && peer == opened) {
        info = *greeted;
        ++sessions;
        connected = true;
        pause = options.retry_first;
        changed.pulse();
        co_await remote_meta.resubscribe();
      } else {
        opened->close();
        if (!greeted && is_final(greeted.error())) refusal = greeted.error();
      }
      co_await ended.wait();
    }
    if (refusal) {
      changed.pulse();
      break;
    }
    if (stopping.is_set()) break;
    static_cast<void>(co_await stopping.wait_until(scheduler.now() + Duration(pause)));
    pause = std::min(2 * pause, options.retry_last);
  }
}

Task<Result<SessionInfo>> NodeClient::wait_connected(std::optional<TimePoint> deadline) {
  State& state = *state_;
  while (!state.connected) {
    if (state.refusal) co_return *state.refusal;
    if (state.stopping.is_set()) co_return Errc::closing;
    const bool in_time = co_await state.changed.wait_pulse(deadline);
    if (!in_time && !state.connected) co_return Errc::timed_out;
  }
  co_return state.info;
}

Task<Result<wire::Frame>> NodeClient::State::call(wire::Opcode opcode,
                                                  std::string control,
                                                  wire::Payload payload,
                                                  bool own_sums,
                                                  std::optional<TimePoint> deadline) {
  if (!connected || peer == nullptr) co_return Errc::disconnected;
  const auto through = peer;  // outlives the call even when the session ends meanwhile
  co_return co_await through->call(
      opcode, std::move(control), std::move(payload), own_sums, deadline);
}

Task<Answer> NodeClient::State::serve(wire::Frame request) {
  Answer answer;
  close_all(request.descriptors);
  if (request.header.opcode == wire::Opcode::meta_event) {
    remote_meta.on_event(request.control);
    co_return answer;
  }
  answer.status = Errc::unsupported;
  if (request.header.opcode != wire::Opcode::disk_call) co_return answer;
  auto parsed = wire::parse<pb::DiskCallRequest>(request.control);
  answer.status = Errc::not_found;
  if (!parsed || !on_disk_call) co_return answer;
  const auto disk = wire::get_id<DiskId>(parsed->disk());
  auto message = std::make_unique<pb::DiskCallRequest>(std::move(*parsed));
  auto served = co_await on_disk_call(disk, std::move(message));
  if (!served) {
    answer.status = served.error().code;
    co_return answer;
  }
  answer.status = Errc::ok;
  answer.control = wire::serialize(*served->reply);
  answer.payload = std::move(served->payload);
  co_return answer;
}

// ---- keys ----

Task<Result<Incarnation>> NodeClient::create_key(KeyId key,
                                                 DiskId disk,
                                                 Epoch token,
                                                 std::vector<std::byte> header_record,
                                                 std::uint32_t copies) {
  pb::KeyCreateRequest request;
  request.set_key(key.value());
  wire::put_id(*request.mutable_disk(), disk);
  request.set_token(token.value);
  request.set_header_record(std::string(as_text(header_record)));
  request.set_copies(copies);
  VMS_CO_TRY(
      const auto reply,
      co_await state_->exchange<pb::KeyCreateReply>(wire::Opcode::key_create, std::move(request)));
  co_return wire::get_id<Incarnation>(reply.incarnation());
}

Task<Result<KeyLength>> NodeClient::append(KeyId key,
                                           Epoch token,
                                           Sequence sequence,
                                           std::uint64_t log_offset,
                                           BlockIndex data_offset,
                                           Sequence committed,
                                           std::vector<std::byte> record,
                                           wire::Payload blocks) {
  pb::KeyAppendRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  request.set_sequence(sequence.value);
  request.set_log_offset(log_offset);
  request.set_data_offset(data_offset.value);
  request.set_committed(committed.value);
  request.set_record(std::string(as_text(record)));
  VMS_CO_TRY(const auto frame,
             co_await state_->call(wire::Opcode::key_append,
                                   wire::serialize(request),
                                   std::move(blocks),
                                   true,
                                   std::nullopt));
  VMS_CO_TRY(const auto reply, wire::parse<pb::KeyAppendReply>(frame.control));
  co_return wire::get_length(reply.length());
}

Task<Result<FenceAnswer>> NodeClient::fence(KeyId key, Epoch token) {
  pb::KeyFenceRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  VMS_CO_TRY(
      const auto reply,
      co_await state_->exchange<pb::KeyFenceReply>(wire::Opcode::key_fence, std::move(request)));
  FenceAnswer answer;
  VMS_CO_TRY(answer.length, wire::get_length(reply.length()));
  answer.sealed = reply.sealed();
  answer.committed = Sequence(reply.committed());
  answer.incarnation = wire::get_id<Incarnation>(reply.incarnation());
  const ByteSpan last = as_byte_span(reply.last_record());
  answer.last_record.assign(last.begin(), last.end());
  co_return answer;
}

Task<Result<KeyLength>> NodeClient::seal(KeyId key, Epoch token, KeyLength length) {
  pb::KeySealRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  wire::put_length(*request.mutable_length(), length);
  VMS_CO_TRY(
      const auto reply,
      co_await state_->exchange<pb::KeySealReply>(wire::Opcode::key_seal, std::move(request)));
  co_return wire::get_length(reply.length());
}

Task<Result<std::unique_ptr<pb::KeyInfoReply>>> NodeClient::key_info(KeyId key) {
  pb::KeyInfoRequest request;
  request.set_key(key.value());
  VMS_CO_TRY(
      auto reply,
      co_await state_->exchange<pb::KeyInfoReply>(wire::Opcode::key_info, std::move(request)));
  co_return std::make_unique<pb::KeyInfoReply>(std::move(reply));
}

Task<Result<ReadBlocks>> NodeClient::read(std::vector<ReadRange> ranges) {
  pb::KeyReadRequest request;
  std::uint64_t blocks = 0;
  for (const ReadRange& range : ranges) {
    auto* const added = request.add_ranges();
    added->set_address(range.address.raw());
    added->set_blocks(range.blocks);
    blocks += range.blocks;
  }
  if (blocks == 0 || blocks > limits::kReadBlocksMax) co_return Errc::invalid_argument;
  VMS_CO_TRY(auto frame, co_await state_->ask(wire::Opcode::key_read, wire::serialize(request)));
  VMS_CO_TRY(const auto reply, wire::parse<pb::KeyReadReply>(frame.control));
  // The node says ok: what it sent must be all of it and match, or it is damage (I8).
  if (frame.payload.size() != blocks * kBlockBytes ||
      static_cast<std::uint64_t>(reply.sums_size()) != blocks) {
    co_return Errc::corrupt;
  }
  ReadBlocks answer;
  const ByteSpan bytes = frame.payload.bytes();
  for (std::uint64_t i = 0; i < blocks; ++i) {
    const std::uint64_t sum = reply.sums(static_cast<int>(i));
    if (block_sum(bytes.subspan(i * kBlockBytes, kBlockBytes)) != sum) co_return Errc::corrupt;
    answer.sums.push_back(sum);
  }
  answer.payload = std::move(frame.payload);
  co_return std::move(answer);
}

Task<Result<LogBytes>> NodeClient::read_log(KeyId key,
                                            std::uint64_t log_offset,
                                            std::uint32_t bytes_max,
                                            Epoch token) {
  pb::KeyReadLogRequest request;
  request.set_key(key.value());
  request.set_log_offset(log_offset);
  request.set_bytes_max(bytes_max);
  request.set_token(token.value);
  VMS_CO_TRY(auto frame,
             co_await state_->ask(wire::Opcode::key_read_log, wire::serialize(request)));
  VMS_CO_TRY(const auto reply, wire::parse<pb::KeyReadLogReply>(frame.control));
  LogBytes answer;
  answer.bytes = std::move(frame.payload);
  answer.log_bytes = reply.log_bytes();
  answer.sealed = reply.sealed();
  co_return std::move(answer);
}

Task<Result<KeyLength>> NodeClient::reserve(KeyId key,
                                            Epoch token,
                                            BlockIndex data_blocks,
                                            std::uint64_t log_bytes) {
  pb::KeyReserveRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  request.set_data_blocks(data_blocks.value);
  request.set_log_bytes(log_bytes);
  VMS_CO_TRY(const auto reply,
             co_await state_->exchange<pb::KeyReserveReply>(wire::Opcode::key_reserve,
                                                            std::move(request)));
  KeyLength length;
  VMS_CO_TRY(length.blocks, wire::get_blocks(reply.data_blocks()));
  length.log_bytes = reply.log_bytes();
  co_return length;
}

Task<Result<void>> NodeClient::free_blocks(KeyId key,
                                           Epoch token,
                                           DiskId disk,
                                           std::vector<FreeRun> runs) {
  pb::KeyFreeRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  wire::put_id(*request.mutable_disk(), disk);
  for (const FreeRun& run : runs) {
    auto* const added = request.add_runs();
    added->set_block(run.first.value);
    added->set_count(run.blocks);
  }
  VMS_CO_CHECK(
      co_await state_->exchange<pb::KeyFreeReply>(wire::Opcode::key_free, std::move(request)));
  co_return success();
}

Task<Result<void>> NodeClient::committed(KeyId key, Epoch token, Sequence committed) {
  pb::KeyCommittedRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  request.set_committed(committed.value);
  VMS_CO_CHECK(co_await state_->exchange<pb::KeyCommittedReply>(wire::Opcode::key_committed,
                                                                std::move(request)));
  co_return success();
}

Task<Result<KeyFiles>> NodeClient::key_files(KeyId key) {
  if (!state_->info.same_host) co_return Errc::unsupported;
  pb::KeyFilesRequest request;
  request.set_key(key.value());
  VMS_CO_TRY(const auto frame,
             co_await state_->ask(wire::Opcode::key_files, wire::serialize(request)));
  const auto reply = wire::parse<pb::KeyFilesReply>(frame.control);
  const auto length = reply ? wire::get_length(reply->length()) : Result<KeyLength>(reply.error());
  if (!length || frame.descriptors.size() != 2) {
    close_all(frame.descriptors);
    co_return length ? Error(Errc::bad_frame) : length.error();
  }
  KeyFiles files;
  files.data_fd = frame.descriptors[0];
  files.sums_fd = frame.descriptors[1];
  files.length = *length;
  co_return files;
}

// ---- ownership, node ----

Task<Result<void>> NodeClient::hold(DiskId disk, Epoch epoch) {
  pb::DiskHoldRequest request;
  wire::put_id(*request.mutable_disk(), disk);
  request.set_epoch(epoch.value);
  VMS_CO_CHECK(
      co_await state_->exchange<pb::DiskHoldReply>(wire::Opcode::disk_hold, std::move(request)));
  co_return success();
}

Task<Result<void>> NodeClient::release(DiskId disk, Epoch epoch) {
  pb::DiskReleaseRequest request;
  wire::put_id(*request.mutable_disk(), disk);
  request.set_epoch(epoch.value);
  VMS_CO_CHECK(co_await state_->exchange<pb::DiskReleaseReply>(wire::Opcode::disk_release,
                                                               std::move(request)));
  co_return success();
}

Task<Result<HolderInfo>> NodeClient::holder(DiskId disk) {
  pb::DiskHolderRequest request;
  wire::put_id(*request.mutable_disk(), disk);
  VMS_CO_TRY(const auto reply,
             co_await state_->exchange<pb::DiskHolderReply>(wire::Opcode::disk_holder,
                                                            std::move(request)));
  HolderInfo info;
  info.held = reply.held();
  info.epoch = Epoch(reply.epoch());
  info.session = SessionId(reply.session());
  info.program = reply.program();
  info.pid = reply.pid();
  co_return info;
}

Task<Result<DiskCallAnswer>> NodeClient::call_holder(const pb::DiskCallRequest& request,
                                                     std::optional<TimePoint> deadline) {
  VMS_CO_TRY(
      auto frame,
      co_await state_->call(
          wire::Opcode::disk_call, wire::serialize(request), wire::Payload(), false, deadline));
  VMS_CO_TRY(auto reply, wire::parse<pb::DiskCallReply>(frame.control));
  DiskCallAnswer answer;
  answer.reply = std::make_unique<pb::DiskCallReply>(std::move(reply));
  answer.payload = std::move(frame.payload);
  co_return std::move(answer);
}

Task<Result<std::unique_ptr<pb::NodeStatusReply>>> NodeClient::status() {
  VMS_CO_TRY(auto reply,
             co_await state_->exchange<pb::NodeStatusReply>(wire::Opcode::node_status,
                                                            pb::NodeStatusRequest()));
  co_return std::make_unique<pb::NodeStatusReply>(std::move(reply));
}

Task<Result<std::unique_ptr<pb::GcRunReply>>> NodeClient::run_gc(bool dry_run) {
  pb::GcRunRequest request;
  request.set_dry_run(dry_run);
  VMS_CO_TRY(auto reply,
             co_await state_->exchange<pb::GcRunReply>(wire::Opcode::gc_run, std::move(request)));
  co_return std::make_unique<pb::GcRunReply>(std::move(reply));
}

}  // namespace vmstore::net
