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
bool is_refusal(const Error& error) noexcept {
  return error == Errc::foreign_store || error == Errc::newer_format || error == Errc::permission ||
         error == Errc::unsupported;
}

void close_all(std::vector<int>& descriptors) noexcept {
  for (const int descriptor : descriptors) ::close(descriptor);
  descriptors.clear();
}

/// A heartbeat's silence counts only if this process was awake to hear: after a pause of its own
/// what came meanwhile is read first.
constexpr Duration kGrace = 100ms;

}  // namespace

/// Shared with the tasks of the client, so that these may be destroyed in any order.
struct NodeClient::State final : MetaTransport, std::enable_shared_from_this<State> {
  using Ptr = std::shared_ptr<State>;

  State(Scheduler& s, Dialer& d, ClientOptions o)
      : scheduler(s),
        dialer(d),
        options(std::move(o)),
        remote_meta(s, *this),
        gate(s),
        stopping(s),
        changed(s) {}

  [[nodiscard]] Task<Result<wire::Frame>> ask(wire::Opcode opcode, std::string control) override {
    return call(shared_from_this(), opcode, std::move(control), wire::Payload(), false, {});
  }
  [[nodiscard]] Error broken(wire::Opcode opcode) override;

  static Task<Result<wire::Frame>> call(Ptr state,
                                        wire::Opcode opcode,
                                        std::string control,
                                        wire::Payload payload,
                                        bool own_sums,
                                        std::optional<TimePoint> deadline);
  /// The message in an answer. One that cannot be read ends the session: its outcome is unknown.
  template <class Reply>
  [[nodiscard]] Result<Reply> read_reply(wire::Opcode opcode, const wire::Frame& frame) {
    auto reply = wire::parse<Reply>(frame.control);
    if (!reply) return broken(opcode);
    return reply;
  }
  /// A number in an answer that cannot be: the same.
  template <class T>
  [[nodiscard]] Result<T> accept(wire::Opcode opcode, Result<T> decoded) {
    if (!decoded) return broken(opcode);
    return decoded;
  }
  template <class Reply, class Request>
  static Task<Result<Reply>> exchange(Ptr state, wire::Opcode opcode, Request request) {
    VMS_CO_TRY(const auto frame, co_await state->ask(opcode, wire::serialize(request)));
    co_return state->read_reply<Reply>(opcode, frame);
  }

  static Task<void> run(Ptr state);
  static Task<bool> run_session(Ptr state, std::unique_ptr<Connection> connection);
  static Task<void> run_peer(Ptr state, std::shared_ptr<RpcPeer> peer);
  static Task<void> watch_silence(Ptr state, std::shared_ptr<RpcPeer> peer);
  static Task<Result<SessionInfo>> hello(Ptr state, std::shared_ptr<RpcPeer> peer);
  static Task<Answer> serve(Ptr state, wire::Frame request);
  static Task<Answer> serve_disk_call(Ptr state, wire::Frame request);
  static Task<Result<SessionInfo>> wait_connected(Ptr state, std::optional<TimePoint> deadline);
  void note_failure(const Error& error);
  /// A node that shows another's certificate must not pass for it, whatever it says of itself.
  [[nodiscard]] bool is_expected(const CertificateName& shown);
  void stop();
  /// Where to dial now. A session that ended, or came to nothing, is followed by one elsewhere.
  [[nodiscard]] const Endpoint& endpoint() const noexcept {
    const std::size_t more = options.more.size();
    const std::size_t place = attempts % (1 + more + alternatives.size());
    if (place == 0) return options.endpoint;
    return place <= more ? options.more[place - 1] : alternatives[place - 1 - more];
  }

  Scheduler& scheduler;
  Dialer& dialer;
  ClientOptions options;
  MetaRemote remote_meta;
  DiskCallHandler on_disk_call;
  Gate gate;  // the tasks of this client
  Event stopping;
  Event changed;
  std::shared_ptr<RpcPeer> peer;  // of the session, or of one that is being made
  bool connected = false;
  SessionInfo info;
  std::uint64_t sessions = 0;
  std::vector<Endpoint> alternatives;
  std::size_t attempts = 0;
  std::optional<Error> refusal;
  bool told_foreign = false;  // once for each time that it happens
  bool told_other = false;    // the same
};

NodeClient::NodeClient(Scheduler& scheduler, Dialer& dialer, ClientOptions options)
    : state_(std::make_shared<State>(scheduler, dialer, std::move(options))) {}

NodeClient::~NodeClient() {
  state_->stop();
}

void NodeClient::set_disk_call_handler(DiskCallHandler handler) {
  state_->on_disk_call = std::move(handler);
}
void NodeClient::set_alternatives(std::vector<Endpoint> endpoints) {
  const auto is_known = [this](const Endpoint& one) {
    const auto is_one = [&one](const Endpoint& other) { return one.text == other.text; };
    const auto& more = state_->options.more;
    return is_one(state_->options.endpoint) || std::any_of(more.begin(), more.end(), is_one);
  };
  std::erase_if(endpoints, is_known);
  state_->alternatives = std::move(endpoints);
}
bool NodeClient::is_connected() const noexcept {
  return state_->connected && !state_->peer->is_closed();
}
NodeId NodeClient::node() const noexcept {
  return state_->info.node;
}
const std::string& NodeClient::certificate() const noexcept {
  return state_->info.certificate;
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
  state_->scheduler.spawn(State::run(state_));
}

Task<void> NodeClient::stop() {
  const State::Ptr state = state_;
  state->stop();
  co_await state->gate.close();
}

void NodeClient::State::stop() {
  stopping.set();
  if (peer) peer->close();
  remote_meta.close();
  changed.pulse();
}

/// Dials, keeps the session while it lasts, and begins again.
Task<void> NodeClient::State::run(Ptr state) {
  const auto pass = state->gate.enter();
  if (!pass) co_return;
  auto pause = state->options.retry_first;
  while (!state->stopping.is_set()) {
    auto dialled = co_await state->dialer.dial(state->endpoint());
    if (!dialled) {
      state->note_failure(dialled.error());
    } else if (!state->stopping.is_set()) {
      const bool was_up = co_await run_session(state, std::move(*dialled));
      if (was_up) pause = state->options.retry_first;
    }
    ++state->attempts;
    const TimePoint again = state->scheduler.now() + pause;
    const bool stopped = co_await state->stopping.wait_until(again);
    if (stopped) co_return;
    pause = std::min(2 * pause, state->options.retry_last);
  }
}

/// Remembers a refusal for wait_connected(). Trying goes on, slowly: the operator may put it right.
void NodeClient::State::note_failure(const Error& error) {
  if (!is_refusal(error)) return;
  // A session that was there once comes back: the node may just be starting, or the wrong file
  // system may be mounted. A guest that was served waits for its own store and gets no other.
  if (sessions > 0 && error != Errc::newer_format) {
    if (error == Errc::foreign_store && !std::exchange(told_foreign, true)) {
      VMS_LOG(warning, "net", options.endpoint.text << " has another store now: waiting for ours");
    }
    return;
  }
  if (refusal != error) {
    VMS_LOG(error, "net", options.endpoint.text << " refuses the session: " << error);
  }
  refusal = error;
  changed.pulse();
}

bool NodeClient::State::is_expected(const CertificateName& shown) {
  if (options.certificate.empty() || shown.person == options.certificate) return true;
  if (!std::exchange(told_other, true)) {
    VMS_LOG(error,
            "tls",
            endpoint().text << " shows the certificate of '" << shown.person << "', not of '"
                            << options.certificate << "': it is taken for absent");
  }
  return false;
}

/// One session, from hello to its end; false when it never came up.
Task<bool> NodeClient::State::run_session(Ptr state, std::unique_ptr<Connection> connection) {
  const auto shown = connection->peer().certificate;
  if (shown && !state->is_expected(*shown)) {
    connection->close();
    co_return false;
  }
  const auto serve_request = [weak = state->weak_from_this()](wire::Frame request) {
    return serve(weak.lock(), std::move(request));
  };
  const auto opened =
      std::make_shared<RpcPeer>(state->scheduler, std::move(connection), serve_request);
  state->peer = opened;
  state->scheduler.spawn(run_peer(state, opened));
  const auto greeted = co_await hello(state, opened);
  if (!greeted || opened->is_closed()) {
    // Over TLS a node says only now that it does not take our certificate.
    const bool was_refused = opened->is_closed() && is_refusal(opened->end_reason());
    const Error why = was_refused || greeted ? opened->end_reason() : greeted.error();
    opened->close();
    if (was_refused || !greeted) state->note_failure(why);
    co_return false;
  }
  state->info = *greeted;
  if (shown) state->info.certificate = shown->person;
  state->refusal.reset();
  state->told_foreign = false;
  state->told_other = false;
  ++state->sessions;
  state->connected = true;
  state->changed.pulse();
  state->remote_meta.session_up();
  state->scheduler.spawn(watch_silence(state, opened));
  co_await opened->closed().wait();
  // Requests that the node made may still be served: the next session does not wait for them.
  state->connected = false;
  state->remote_meta.session_lost();
  state->changed.pulse();
  co_return true;
}

Task<void> NodeClient::State::run_peer(Ptr state, std::shared_ptr<RpcPeer> peer) {
  const auto pass = state->gate.enter();
  const Error why = co_await peer->run();
  VMS_LOG(debug, "net", "session with " << state->endpoint().text << " ended: " << why);
}

Task<Result<SessionInfo>> NodeClient::State::hello(Ptr state, std::shared_ptr<RpcPeer> peer) {
  pb::HelloRequest request;
  request.set_version_min(wire::kWireVersionOldest);
  request.set_version_max(wire::kWireVersion);
  request.set_program(state->options.program);
  wire::put_id(*request.mutable_boot_id(), state->options.boot);
  request.set_pid(state->options.pid);
  if (state->options.store) wire::put_id(*request.mutable_store_id(), *state->options.store);
  const TimePoint deadline = state->scheduler.now() + Duration(limits::kHandshakeTimeout);
  wire::Payload nothing;
  VMS_CO_TRY(
      const auto frame,
      co_await peer->call(
          wire::Opcode::hello, wire::serialize(request), std::move(nothing), false, deadline));
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
  // The node checks this as well; a store that changed under a living client is another store.
  const bool expected = !state->options.store || session.store == *state->options.store;
  if (!expected || (state->sessions > 0 && session.store != state->info.store)) {
    co_return Errc::foreign_store;
  }
  if (state->options.node && session.node != *state->options.node) co_return Errc::unavailable;
  co_return session;
}

/// Ends a session whose node owes answers and says nothing: it is dead, stopped, or cut off.
Task<void> NodeClient::State::watch_silence(Ptr state, std::shared_ptr<RpcPeer> peer) {
  const auto pass = state->gate.enter();
  while (pass && !peer->is_closed()) {
    const TimePoint next = state->scheduler.now() + Duration(limits::kHeartbeatPause);
    const bool is_over = co_await peer->closed().wait_until(next);
    if (is_over) co_return;
    const TimePoint asked = state->scheduler.now();
    if (peer->unanswered() == 0 || asked - peer->last_heard() < limits::kHeartbeatPause) continue;
    const TimePoint deadline = asked + Duration(limits::kPeerSilence);
    std::string control;
    wire::Payload nothing;
    const auto answer = co_await peer->call(
        wire::Opcode::ping, std::move(control), std::move(nothing), false, deadline);
    if (answer || answer.error() != Errc::timed_out) continue;
    co_await sleep_for(state->scheduler, kGrace);
    if (peer->last_heard() >= asked || peer->is_closed()) continue;
    VMS_LOG(warning, "net", state->endpoint().text << " is silent: the session is given up");
    peer->close();
  }
}

Task<Result<SessionInfo>> NodeClient::State::wait_connected(Ptr state,
                                                            std::optional<TimePoint> deadline) {
  const auto is_up = [&] { return state->connected && !state->peer->is_closed(); };
  while (!is_up()) {
    if (state->refusal) co_return *state->refusal;
    if (state->stopping.is_set()) co_return Errc::closing;
    const bool in_time = co_await state->changed.wait_pulse(deadline);
    if (!in_time && !is_up()) co_return Errc::timed_out;
  }
  co_return state->info;
}

Task<Result<SessionInfo>> NodeClient::wait_connected(std::optional<TimePoint> deadline) {
  return State::wait_connected(state_, deadline);
}

Error NodeClient::State::broken(wire::Opcode opcode) {
  VMS_LOG(error,
          "net",
          endpoint().text << " sent nonsense (opcode " << static_cast<unsigned>(opcode)
                          << "): the session is given up");
  if (peer) peer->close();
  return Errc::disconnected;
}

Task<Result<wire::Frame>> NodeClient::State::call(Ptr state,
                                                  wire::Opcode opcode,
                                                  std::string control,
                                                  wire::Payload payload,
                                                  bool own_sums,
                                                  std::optional<TimePoint> deadline) {
  if (!state->connected) co_return Errc::disconnected;
  const auto through = state->peer;  // outlives the call even when the session ends meanwhile
  auto frame =
      co_await through->call(opcode, std::move(control), std::move(payload), own_sums, deadline);
  if (frame && opcode != wire::Opcode::key_files) close_all(frame->descriptors);
  co_return frame;
}

// ---- what the node asks ----

Task<Answer> NodeClient::State::serve(Ptr state, wire::Frame request) {
  Answer answer;
  answer.status = Errc::unsupported;
  if (!state) co_return answer;
  switch (request.header.opcode) {
    case wire::Opcode::meta_event:
      state->remote_meta.on_event(request.control);
      break;
    case wire::Opcode::ping:
      answer.status = Errc::ok;
      break;
    case wire::Opcode::disk_call:
      co_return co_await serve_disk_call(state, std::move(request));
    default:
      break;
  }
  co_return answer;
}

Task<Answer> NodeClient::State::serve_disk_call(Ptr state, wire::Frame request) {
  Answer answer;
  auto parsed = wire::parse<pb::DiskCallRequest>(request.control);
  answer.status = parsed ? Errc::not_owner : Errc::invalid_argument;
  if (!parsed || !state->on_disk_call) co_return answer;
  const auto disk = wire::get_id<DiskId>(parsed->disk());
  auto message = std::make_unique<pb::DiskCallRequest>(std::move(*parsed));
  const DiskCallHandler handler = state->on_disk_call;  // may be taken away meanwhile
  auto served = co_await handler(disk, std::move(message));
  answer.status = served ? Errc::ok : served.error().code;
  if (!served) co_return answer;
  answer.control = wire::serialize(*served->reply);
  answer.payload = std::move(served->payload);
  co_return answer;
}

// ---- keys ----

Task<Result<std::uint64_t>> NodeClient::draw_keys(std::uint64_t count) {
  const State::Ptr state = state_;
  pb::KeyDrawRequest request;
  request.set_count(count);
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::KeyDrawReply>(
                 state, wire::Opcode::key_draw, std::move(request)));
  const bool usable = reply.first() >= KeyId::kFirst && reply.first() < KeyId::kEnd &&
                      KeyId::kEnd - reply.first() >= count;
  if (!usable) co_return state->broken(wire::Opcode::key_draw);
  co_return reply.first();
}

Task<Result<Incarnation>> NodeClient::create_key(KeyId key,
                                                 DiskId disk,
                                                 Epoch token,
                                                 std::vector<std::byte> header_record,
                                                 std::uint32_t copies) {
  const State::Ptr state = state_;
  pb::KeyCreateRequest request;
  request.set_key(key.value());
  wire::put_id(*request.mutable_disk(), disk);
  request.set_token(token.value);
  request.set_header_record(std::string(as_text(header_record)));
  request.set_copies(copies);
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::KeyCreateReply>(
                 state, wire::Opcode::key_create, std::move(request)));
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
  const State::Ptr state = state_;
  pb::KeyAppendRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  request.set_sequence(sequence.value);
  request.set_log_offset(log_offset);
  request.set_data_offset(data_offset.value);
  request.set_committed(committed.value);
  request.set_record(std::string(as_text(record)));
  VMS_CO_TRY(const auto frame,
             co_await State::call(state,
                                  wire::Opcode::key_append,
                                  wire::serialize(request),
                                  std::move(blocks),
                                  true,
                                  std::nullopt));
  VMS_CO_TRY(const auto reply,
             state->read_reply<pb::KeyAppendReply>(wire::Opcode::key_append, frame));
  co_return state->accept(wire::Opcode::key_append, wire::get_length(reply.length()));
}

Task<Result<FenceAnswer>> NodeClient::fence(KeyId key, Epoch token) {
  const State::Ptr state = state_;
  pb::KeyFenceRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::KeyFenceReply>(
                 state, wire::Opcode::key_fence, std::move(request)));
  FenceAnswer answer;
  VMS_CO_TRY(answer.length,
             state->accept(wire::Opcode::key_fence, wire::get_length(reply.length())));
  answer.sealed = reply.sealed();
  answer.committed = Sequence(reply.committed());
  answer.incarnation = wire::get_id<Incarnation>(reply.incarnation());
  const ByteSpan last = as_byte_span(reply.last_record());
  answer.last_record.assign(last.begin(), last.end());
  co_return answer;
}

Task<Result<KeyLength>> NodeClient::seal(KeyId key, Epoch token, KeyLength length) {
  const State::Ptr state = state_;
  pb::KeySealRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  wire::put_length(*request.mutable_length(), length);
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::KeySealReply>(
                 state, wire::Opcode::key_seal, std::move(request)));
  co_return state->accept(wire::Opcode::key_seal, wire::get_length(reply.length()));
}

Task<Result<std::unique_ptr<pb::KeyInfoReply>>> NodeClient::key_info(KeyId key) {
  const State::Ptr state = state_;
  pb::KeyInfoRequest request;
  request.set_key(key.value());
  VMS_CO_TRY(auto reply,
             co_await State::exchange<pb::KeyInfoReply>(
                 state, wire::Opcode::key_info, std::move(request)));
  co_return std::make_unique<pb::KeyInfoReply>(std::move(reply));
}

Task<Result<std::unique_ptr<pb::KeyRepairReply>>> NodeClient::repair_key(
    std::unique_ptr<pb::KeyRepairRequest> request) {
  const State::Ptr state = state_;
  VMS_CO_TRY(auto reply,
             co_await State::exchange<pb::KeyRepairReply>(
                 state, wire::Opcode::key_repair, std::move(*request)));
  co_return std::make_unique<pb::KeyRepairReply>(std::move(reply));
}

Task<Result<ReadBlocks>> NodeClient::read(std::vector<ReadRange> ranges) {
  const State::Ptr state = state_;
  pb::KeyReadRequest request;
  std::uint64_t blocks = 0;
  for (const ReadRange& range : ranges) {
    auto* const added = request.add_ranges();
    added->set_address(range.address.raw());
    added->set_blocks(range.blocks);
    blocks += range.blocks;
  }
  if (blocks == 0 || blocks > limits::kReadBlocksMax) co_return Errc::invalid_argument;
  VMS_CO_TRY(auto frame, co_await state->ask(wire::Opcode::key_read, wire::serialize(request)));
  VMS_CO_TRY(const auto reply, state->read_reply<pb::KeyReadReply>(wire::Opcode::key_read, frame));
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
  const State::Ptr state = state_;
  pb::KeyReadLogRequest request;
  request.set_key(key.value());
  request.set_log_offset(log_offset);
  request.set_bytes_max(bytes_max);
  request.set_token(token.value);
  VMS_CO_TRY(auto frame, co_await state->ask(wire::Opcode::key_read_log, wire::serialize(request)));
  VMS_CO_TRY(const auto reply,
             state->read_reply<pb::KeyReadLogReply>(wire::Opcode::key_read_log, frame));
  if (frame.payload.size() > bytes_max) co_return Errc::corrupt;
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
  const State::Ptr state = state_;
  pb::KeyReserveRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  request.set_data_blocks(data_blocks.value);
  request.set_log_bytes(log_bytes);
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::KeyReserveReply>(
                 state, wire::Opcode::key_reserve, std::move(request)));
  KeyLength length;
  VMS_CO_TRY(length.blocks,
             state->accept(wire::Opcode::key_reserve, wire::get_blocks(reply.data_blocks())));
  length.log_bytes = reply.log_bytes();
  co_return length;
}

Task<Result<void>> NodeClient::free_blocks(
    KeyId key, Epoch token, DiskId disk, std::vector<FreeRun> runs, FreeReport report) {
  const State::Ptr state = state_;
  pb::KeyFreeRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  wire::put_id(*request.mutable_disk(), disk);
  for (const FreeRun& run : runs) {
    auto* const added = request.add_runs();
    added->set_block(run.first.value);
    added->set_count(run.blocks);
  }
  request.set_garbage_blocks(report.garbage_blocks);
  request.set_slowed_ns(static_cast<std::uint64_t>(report.slowed.count()));
  VMS_CO_CHECK(co_await State::exchange<pb::KeyFreeReply>(
      state, wire::Opcode::key_free, std::move(request)));
  co_return success();
}

Task<Result<void>> NodeClient::committed(KeyId key, Epoch token, Sequence committed) {
  const State::Ptr state = state_;
  pb::KeyCommittedRequest request;
  request.set_key(key.value());
  request.set_token(token.value);
  request.set_committed(committed.value);
  VMS_CO_CHECK(co_await State::exchange<pb::KeyCommittedReply>(
      state, wire::Opcode::key_committed, std::move(request)));
  co_return success();
}

Task<Result<KeyFiles>> NodeClient::key_files(KeyId key) {
  const State::Ptr state = state_;
  if (!state->info.same_host) co_return Errc::unsupported;
  pb::KeyFilesRequest request;
  request.set_key(key.value());
  VMS_CO_TRY(auto frame, co_await state->ask(wire::Opcode::key_files, wire::serialize(request)));
  const auto reply = state->read_reply<pb::KeyFilesReply>(wire::Opcode::key_files, frame);
  const auto length = reply ? wire::get_length(reply->length()) : Result<KeyLength>(Errc::unknown);
  if (!length || frame.descriptors.size() != 2) {
    close_all(frame.descriptors);
    co_return state->broken(wire::Opcode::key_files);
  }
  KeyFiles files;
  files.data_fd = frame.descriptors[0];
  files.sums_fd = frame.descriptors[1];
  files.length = *length;
  co_return files;
}

// ---- ownership, node ----

Task<Result<void>> NodeClient::hold(DiskId disk, Epoch epoch) {
  const State::Ptr state = state_;
  pb::DiskHoldRequest request;
  wire::put_id(*request.mutable_disk(), disk);
  request.set_epoch(epoch.value);
  VMS_CO_CHECK(co_await State::exchange<pb::DiskHoldReply>(
      state, wire::Opcode::disk_hold, std::move(request)));
  co_return success();
}

Task<Result<std::vector<DiskId>>> NodeClient::renew(std::vector<DiskId> disks) {
  const State::Ptr state = state_;
  pb::DiskRenewRequest request;
  for (const DiskId disk : disks) wire::put_id(*request.add_disks(), disk);
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::DiskRenewReply>(
                 state, wire::Opcode::disk_renew, std::move(request)));
  std::vector<DiskId> lost;
  for (const auto& id : reply.lost()) lost.push_back(wire::get_id<DiskId>(id));
  co_return lost;
}

Task<Result<void>> NodeClient::release(DiskId disk, Epoch epoch) {
  const State::Ptr state = state_;
  pb::DiskReleaseRequest request;
  wire::put_id(*request.mutable_disk(), disk);
  request.set_epoch(epoch.value);
  VMS_CO_CHECK(co_await State::exchange<pb::DiskReleaseReply>(
      state, wire::Opcode::disk_release, std::move(request)));
  co_return success();
}

Task<Result<wire::Frame>> NodeClient::relay(wire::Opcode opcode,
                                            std::string control,
                                            std::optional<TimePoint> deadline) {
  const State::Ptr state = state_;
  wire::Payload nothing;
  co_return co_await State::call(
      state, opcode, std::move(control), std::move(nothing), false, deadline);
}

Task<Result<HolderInfo>> NodeClient::holder(DiskId disk, bool here_only) {
  const State::Ptr state = state_;
  pb::DiskHolderRequest request;
  request.set_here_only(here_only);
  wire::put_id(*request.mutable_disk(), disk);
  VMS_CO_TRY(const auto reply,
             co_await State::exchange<pb::DiskHolderReply>(
                 state, wire::Opcode::disk_holder, std::move(request)));
  HolderInfo info;
  info.held = reply.held();
  info.epoch = Epoch(reply.epoch());
  info.session = SessionId(reply.session());
  info.program = reply.program();
  info.pid = reply.pid();
  info.lease_left = std::chrono::milliseconds(reply.lease_left_ms());
  co_return info;
}

Task<Result<DiskCallAnswer>> NodeClient::call_holder(const pb::DiskCallRequest& request,
                                                     std::optional<TimePoint> deadline) {
  const State::Ptr state = state_;
  VMS_CO_TRY(auto frame,
             co_await State::call(state,
                                  wire::Opcode::disk_call,
                                  wire::serialize(request),
                                  wire::Payload(),
                                  false,
                                  deadline));
  VMS_CO_TRY(auto reply, state->read_reply<pb::DiskCallReply>(wire::Opcode::disk_call, frame));
  DiskCallAnswer answer;
  answer.reply = std::make_unique<pb::DiskCallReply>(std::move(reply));
  answer.payload = std::move(frame.payload);
  co_return std::move(answer);
}

Task<Result<std::unique_ptr<pb::NodeStatusReply>>> NodeClient::status() {
  const State::Ptr state = state_;
  VMS_CO_TRY(auto reply,
             co_await State::exchange<pb::NodeStatusReply>(
                 state, wire::Opcode::node_status, pb::NodeStatusRequest()));
  co_return std::make_unique<pb::NodeStatusReply>(std::move(reply));
}

Task<Result<std::unique_ptr<pb::GcRunReply>>> NodeClient::run_gc(bool dry_run) {
  const State::Ptr state = state_;
  pb::GcRunRequest request;
  request.set_dry_run(dry_run);
  VMS_CO_TRY(
      auto reply,
      co_await State::exchange<pb::GcRunReply>(state, wire::Opcode::gc_run, std::move(request)));
  co_return std::make_unique<pb::GcRunReply>(std::move(reply));
}

}  // namespace vmstore::net
