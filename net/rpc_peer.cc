// SPDX-License-Identifier: Apache-2.0
#include "net/rpc_peer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "base/assert.h"
#include "base/limits.h"
#include "base/log.h"

namespace vmstore::net {
namespace {

void close_descriptors(std::vector<int>& descriptors) noexcept {
  for (const int fd : descriptors) ::close(fd);
  descriptors.clear();
}

std::size_t frame_bytes(const wire::Frame& frame) {
  return wire::kFrameHeaderBytes + frame.control.size() + frame.payload.size();
}

/// The memory that the answer to a request may take.
std::size_t answer_bytes_max(wire::Opcode opcode) {
  constexpr std::size_t kSmall = 4096;
  switch (opcode) {
    case wire::Opcode::key_read:
    case wire::Opcode::key_read_log:
    case wire::Opcode::meta_range:
    case wire::Opcode::meta_backup:
    case wire::Opcode::disk_call:
      return limits::kPayloadBytesMax;
    default:
      return kSmall;
  }
}

/// What a request counts for until its answer was handed to the kernel.
struct Share {
  std::size_t held_bytes = 0;  // its frame
  std::size_t cost = 0;        // its frame and its answer
};

}  // namespace

/// Shared by the RpcPeer and the tasks it started, so that these may be destroyed in any order.
struct RpcPeer::State : std::enable_shared_from_this<State> {
  using Ptr = std::shared_ptr<State>;

  State(Scheduler& owner, std::unique_ptr<Connection> link, Handler serve_request)
      : scheduler(owner),
        connection(std::move(link)),
        handler(std::move(serve_request)),
        window(owner),
        handed_over(owner),
        room(owner),
        idle(owner),
        over(owner),
        last_heard(owner.now()) {}

  class PendingCall;
  /// A request sent and not answered; `call` is null once its caller gave up.
  struct Sent {
    wire::Opcode opcode;
    PendingCall* call;
  };
  struct Outgoing {
    wire::Frame frame;
    std::optional<Share> share;  // of the request that this answers
  };
  struct Incoming {
    wire::Frame frame;
    Share share;
  };

  void fail(Error error) noexcept;
  void enqueue(wire::Frame frame, std::optional<Share> share);
  void drop(Outgoing& outgoing);
  [[nodiscard]] bool deliver(wire::Frame answer);
  [[nodiscard]] bool has_room(const wire::Frame& request) const;
  void admit(wire::Frame request);
  void start_waiting();
  void start(Incoming request);
  void finish(const Share& share);
  void wake_if_idle();
  [[nodiscard]] wire::Frame make_response(const wire::FrameHeader& request, Answer answer) const;

  static Task<Error> run(Ptr state);
  static Task<void> send_queue(Ptr state);
  static Task<void> serve(Ptr state, wire::Frame request, Share share);
  static Task<Result<wire::Frame>> call(Ptr state,
                                        wire::Frame request,
                                        std::optional<TimePoint> deadline);
  static Task<Result<void>> send_one_way(Ptr state, wire::Frame frame);

  Scheduler& scheduler;
  std::unique_ptr<Connection> connection;
  Handler handler;

  bool closed = false;
  Error reason;

  // What we ask.
  std::uint64_t last_id = 0;
  std::unordered_map<std::uint64_t, Sent> sent;
  WaitQueue window;  // callers, while too many requests are unanswered

  // What goes out.
  std::deque<Outgoing> queue;
  bool sending = false;
  std::uint64_t queued_count = 0;
  std::uint64_t handed_over_count = 0;
  WaitQueue handed_over;

  // What we are asked.
  std::deque<Incoming> waiting;  // in their order, for memory
  std::size_t unanswered = 0;    // waiting, running, and answers not handed over
  std::size_t held_bytes = 0;
  std::size_t running_cost = 0;
  std::size_t running_shares = 0;
  std::size_t handlers = 0;
  bool starting = false;
  WaitQueue room;  // run(), while it may not read the next request
  WaitQueue idle;  // run(), at the end
  Event over;      // set when closed is

  TimePoint last_heard;
};

/// Lies in the frame of call(): registered while it lives.
class RpcPeer::State::PendingCall {
 public:
  PendingCall(State& state, std::uint64_t id, wire::Opcode opcode)
      : answered_(state.scheduler), state_(state), id_(id) {
    state_.sent.emplace(id_, Sent{opcode, this});
  }
  PendingCall(const PendingCall&) = delete;
  PendingCall& operator=(const PendingCall&) = delete;
  ~PendingCall() {
    const auto entry = state_.sent.find(id_);
    if (!outcome_ && entry != state_.sent.end()) entry->second.call = nullptr;
    if (outcome_ && *outcome_) close_descriptors((*outcome_)->descriptors);  // nobody took it
  }
  void complete(Result<wire::Frame> outcome) {
    outcome_.emplace(std::move(outcome));
    answered_.wake_all();
  }
  [[nodiscard]] bool is_complete() const { return outcome_.has_value(); }
  [[nodiscard]] WaitQueue& answered() { return answered_; }
  [[nodiscard]] Result<wire::Frame> take() {
    Result<wire::Frame> taken = std::move(*outcome_);
    outcome_.emplace(Errc::closing);
    return taken;
  }

 private:
  WaitQueue answered_;
  State& state_;
  std::uint64_t id_;
  std::optional<Result<wire::Frame>> outcome_;
};

// ---- the end ----

void RpcPeer::State::fail(Error error) noexcept {
  if (std::exchange(closed, true)) return;
  reason = error;
  connection->close();
  for (auto& [id, entry] : sent) {
    if (entry.call != nullptr) entry.call->complete(Errc::disconnected);
  }
  sent.clear();
  for (Outgoing& outgoing : queue) drop(outgoing);
  queue.clear();
  waiting.clear();
  window.wake_all();
  handed_over.wake_all();
  room.wake_all();
  over.set();
}

void RpcPeer::State::wake_if_idle() {
  if (handlers == 0 && !sending) idle.wake_all();
}

// ---- sending ----

void RpcPeer::State::drop(Outgoing& outgoing) {
  if (outgoing.share) close_descriptors(outgoing.frame.descriptors);  // duplicates of ours
}

void RpcPeer::State::enqueue(wire::Frame frame, std::optional<Share> share) {
  queue.push_back({std::move(frame), share});
  ++queued_count;
  if (sending) return;
  sending = true;
  scheduler.spawn(send_queue(shared_from_this()));  // sends at once what the kernel takes
}

Task<void> RpcPeer::State::send_queue(Ptr state) {
  while (!state->queue.empty()) {
    Outgoing outgoing = std::move(state->queue.front());
    state->queue.pop_front();
    const Result<void> taken = co_await state->connection->send(outgoing.frame);
    state->drop(outgoing);
    ++state->handed_over_count;
    state->handed_over.wake_all();
    if (outgoing.share) state->finish(*outgoing.share);
    if (!taken) state->fail(taken.error());
  }
  state->sending = false;
  state->wake_if_idle();
}

Task<Result<void>> RpcPeer::State::send_one_way(Ptr state, wire::Frame frame) {
  if (state->closed) co_return Errc::disconnected;
  VMS_CO_CHECK(wire::seal_frame(frame));
  state->enqueue(std::move(frame), std::nullopt);
  const std::uint64_t number = state->queued_count;
  while (!state->closed && state->handed_over_count < number) {
    auto turn = state->handed_over.wait();
    static_cast<void>(co_await turn);
  }
  if (state->handed_over_count < number) co_return Errc::disconnected;
  co_return success();
}

// ---- asking ----

bool RpcPeer::State::deliver(wire::Frame answer) {
  const auto entry = sent.find(answer.header.request_id);
  const bool expected = entry != sent.end() && entry->second.opcode == answer.header.opcode;
  if (!expected) {
    VMS_LOG(warning, "net", "an answer that nobody asked for, from pid " << connection->peer().pid);
    close_descriptors(answer.descriptors);
    return false;
  }
  PendingCall* const call = entry->second.call;
  sent.erase(entry);
  if (!window.empty()) window.wake_first();
  if (call != nullptr) {
    call->complete(std::move(answer));
  } else {
    close_descriptors(answer.descriptors);  // too late
  }
  return true;
}

Task<Result<wire::Frame>> RpcPeer::State::call(Ptr state,
                                               wire::Frame request,
                                               std::optional<TimePoint> deadline) {
  while (!state->closed && state->sent.size() >= limits::kRequestsInFlightMax) {
    auto turn = state->window.wait(deadline);
    const bool in_time = co_await turn;
    if (!in_time) co_return Errc::timed_out;
  }
  if (state->closed) co_return Errc::disconnected;
  request.header.request_id = ++state->last_id;
  VMS_CO_CHECK(wire::seal_frame(request));
  PendingCall pending(*state, request.header.request_id, request.header.opcode);
  state->enqueue(std::move(request), std::nullopt);
  if (!pending.is_complete()) {
    auto answer = pending.answered().wait(deadline);
    const bool in_time = co_await answer;
    if (!in_time) co_return Errc::timed_out;
  }
  Result<wire::Frame> outcome = pending.take();
  if (!outcome || outcome->header.status == Errc::ok) co_return outcome;
  close_descriptors(outcome->descriptors);
  co_return outcome->header.status;
}

// ---- serving ----

bool RpcPeer::State::has_room(const wire::Frame& request) const {
  if (unanswered == 0) return true;
  return unanswered < limits::kRequestsInFlightMax &&
         held_bytes + frame_bytes(request) <= limits::kServedBytesMax;
}

void RpcPeer::State::admit(wire::Frame request) {
  Share share;
  share.held_bytes = frame_bytes(request);
  share.cost = share.held_bytes + answer_bytes_max(request.header.opcode);
  ++unanswered;
  held_bytes += share.held_bytes;
  if (request.header.opcode == wire::Opcode::ping) {
    start({std::move(request), share});  // a heartbeat waits for nobody's memory
    return;
  }
  waiting.push_back({std::move(request), share});
  start_waiting();
}

void RpcPeer::State::start(Incoming request) {
  ++running_shares;
  running_cost += request.share.cost;
  scheduler.spawn(serve(shared_from_this(), std::move(request.frame), request.share));
}

/// Starts requests in their order, as far as memory for their answers goes; always at least one.
void RpcPeer::State::start_waiting() {
  if (std::exchange(starting, true)) return;  // the loop below goes on
  while (!closed && !waiting.empty()) {
    const Share share = waiting.front().share;
    if (running_shares > 0 && running_cost + share.cost > limits::kServedBytesMax) break;
    Incoming request = std::move(waiting.front());
    waiting.pop_front();
    start(std::move(request));
  }
  starting = false;
}

void RpcPeer::State::finish(const Share& share) {
  --unanswered;
  --running_shares;
  held_bytes -= share.held_bytes;
  running_cost -= share.cost;
  room.wake_all();
  start_waiting();
}

wire::Frame RpcPeer::State::make_response(const wire::FrameHeader& request, Answer answer) const {
  wire::Frame frame;
  frame.header.type = wire::FrameType::response;
  frame.header.opcode = request.opcode;
  frame.header.request_id = request.request_id;
  frame.header.status = answer.status;
  frame.header.payload_has_own_sums = answer.payload_has_own_sums;
  frame.control = std::move(answer.control);
  frame.payload = std::move(answer.payload);
  Errc problem = Errc::ok;
  if (!answer.descriptors.empty() && !connection->peer().same_host) problem = Errc::unsupported;
  // Duplicates: the server may close its own before the frame's turn comes.
  for (const int fd : problem == Errc::ok ? answer.descriptors : std::vector<int>()) {
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (copy < 0) problem = Errc::io_error;
    if (copy >= 0) frame.descriptors.push_back(copy);
  }
  if (problem == Errc::ok && !wire::seal_frame(frame)) {
    VMS_LOG(error,
            "net",
            "an answer is over the limits: opcode " << static_cast<unsigned>(request.opcode) << ", "
                                                    << frame.control.size() << " + "
                                                    << frame.payload.size());
    problem = Errc::unknown;
  }
  if (problem == Errc::ok) return frame;
  close_descriptors(frame.descriptors);
  Answer refusal;
  refusal.status = problem;
  return make_response(request, std::move(refusal));
}

Task<void> RpcPeer::State::serve(Ptr state, wire::Frame request, Share share) {
  /// Counts the handler also when it is destroyed instead of ending.
  class Running {
   public:
    explicit Running(State& owner) : owner_(owner) { ++owner_.handlers; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
      --owner_.handlers;
      owner_.wake_if_idle();
    }

   private:
    State& owner_;
  };
  const Running running(*state);
  const wire::FrameHeader header = request.header;
  Answer answer = co_await state->handler(std::move(request));
  if (header.type == wire::FrameType::one_way || state->closed) {
    state->finish(share);
    co_return;
  }
  state->enqueue(state->make_response(header, std::move(answer)), share);
}

// ---- the loop ----

Task<Error> RpcPeer::State::run(Ptr state) {
  while (!state->closed) {
    Result<wire::Frame> frame = co_await state->connection->receive();
    if (!frame) {
      state->fail(frame.error());
      break;
    }
    state->last_heard = state->scheduler.now();
    if (frame->header.type == wire::FrameType::response) {
      if (!state->deliver(std::move(*frame))) state->fail(Errc::bad_frame);
      continue;
    }
    close_descriptors(frame->descriptors);
    // Answers behind this request wait with it; a peer that keeps to the limits never gets here.
    while (!state->closed && !state->has_room(*frame)) {
      auto turn = state->room.wait();
      static_cast<void>(co_await turn);
    }
    if (!state->closed) state->admit(std::move(*frame));
  }
  while (state->handlers > 0 || state->sending) {
    auto turn = state->idle.wait();
    static_cast<void>(co_await turn);
  }
  co_return state->reason;
}

// ---- RpcPeer ----

RpcPeer::RpcPeer(Scheduler& scheduler, std::unique_ptr<Connection> connection, Handler handler)
    : state_(std::make_shared<State>(scheduler, std::move(connection), std::move(handler))) {}

RpcPeer::~RpcPeer() {
  close();
}

Task<Error> RpcPeer::run() {
  return State::run(state_);
}

Task<Result<wire::Frame>> RpcPeer::call(wire::Opcode opcode,
                                        std::string control,
                                        wire::Payload payload,
                                        bool payload_has_own_sums,
                                        std::optional<TimePoint> deadline) {
  wire::Frame request;
  request.header.opcode = opcode;
  request.header.payload_has_own_sums = payload_has_own_sums;
  request.control = std::move(control);
  request.payload = std::move(payload);
  return State::call(state_, std::move(request), deadline);
}

Task<Result<void>> RpcPeer::send_one_way(wire::Opcode opcode, std::string control) {
  wire::Frame frame;
  frame.header.type = wire::FrameType::one_way;
  frame.header.opcode = opcode;
  frame.control = std::move(control);
  return State::send_one_way(state_, std::move(frame));
}

void RpcPeer::close() noexcept {
  state_->fail(Errc::closing);
}
Event& RpcPeer::closed() noexcept {
  return state_->over;
}
bool RpcPeer::is_closed() const noexcept {
  return state_->closed;
}
Error RpcPeer::end_reason() const noexcept {
  return state_->reason;
}
bool RpcPeer::is_peer_gone() const noexcept {
  return state_->connection->is_peer_gone();
}

PeerCredentials RpcPeer::peer() const noexcept {
  return state_->connection->peer();
}
TimePoint RpcPeer::last_heard() const noexcept {
  return state_->last_heard;
}
std::size_t RpcPeer::unanswered() const noexcept {
  return state_->sent.size();
}

}  // namespace vmstore::net
