// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sim_network.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>

#include "base/assert.h"
#include "base/sync.h"
#include "wire/frame.h"

namespace vmstore::sim {
namespace {

constexpr std::size_t kWindowBytes = 4 << 20;  // sent and not read: beyond it the sender waits

std::string plain_endpoint(const std::string& text) {
  return text.starts_with("unix:") ? text.substr(5) : text;
}

/// The bytes of a sealed frame.
std::vector<std::byte> encode(const wire::Frame& frame) {
  const auto header = wire::encode_frame_header(frame.header);
  std::vector<std::byte> bytes;
  bytes.reserve(header.size() + frame.control.size() + frame.payload.size());
  bytes.insert(bytes.end(), header.begin(), header.end());
  const ByteSpan control = as_byte_span(frame.control);
  bytes.insert(bytes.end(), control.begin(), control.end());
  for (const ByteSpan piece : frame.payload.pieces()) {
    bytes.insert(bytes.end(), piece.begin(), piece.end());
  }
  return bytes;
}

Result<wire::Frame> decode(ByteSpan bytes) {
  wire::Frame frame;
  VMS_TRY(frame.header, wire::decode_frame_header(bytes));
  ByteReader rest(bytes.subspan(wire::kFrameHeaderBytes));
  frame.control = as_text(rest.get_bytes(frame.header.control_bytes));
  const ByteSpan payload = rest.get_bytes(frame.header.payload_bytes);
  if (!rest.ok() || rest.remaining() != 0) return Errc::bad_frame;
  if (!payload.empty()) {
    frame.payload = wire::Payload::allocate(payload.size());
    std::memcpy(frame.payload.writable().data(), payload.data(), payload.size());
  }
  VMS_CHECK(wire::check_body(frame));
  return frame;
}

}  // namespace

/// Two ends, 0 = who dialled, 1 = who accepted, and what is between them.
struct SimNetwork::Link : std::enable_shared_from_this<Link> {
  /// What one end has sent.
  struct Pipe {
    std::deque<std::vector<std::byte>> flight;  // an empty one is the end
    std::deque<std::vector<std::byte>> arrived;
    TimePoint last_arrival;
    std::size_t unread_bytes = 0;
    std::size_t held_back = 0;  // arrivals that wait for release()
    bool ending = false;        // the end is under way
    bool ended = false;         // the end arrived
    bool sender_waits = false;
  };
  struct End {
    VirtualScheduler* process = nullptr;  // null once frozen
    std::uint32_t pid = 0;
    Event* readable = nullptr;  // null once the Connection is gone
    Event* writable = nullptr;
    bool open = true;
  };

  explicit Link(SimNetwork& owner) : network(owner) {}

  /// The next thing sent by `from` reaches the other end.
  void schedule_arrival(std::size_t from) {
    VirtualScheduler* const receiver = ends[1 - from].process;
    if (receiver == nullptr) return;
    Pipe& pipe = pipes[from];
    pipe.last_arrival = std::max(pipe.last_arrival, network.world_.now() + network.draw_delay());
    receiver->start_timer(pipe.last_arrival,
                          [self = shared_from_this(), from] { self->arrive(from); });
  }
  void arrive(std::size_t from) {
    Pipe& pipe = pipes[from];
    if (network.is_held(ends[from].pid, ends[1 - from].pid)) {
      ++pipe.held_back;
      return;
    }
    if (pipe.flight.empty()) return;
    std::vector<std::byte> bytes = std::move(pipe.flight.front());
    pipe.flight.pop_front();
    network.world_.trace("arrive", bytes.size());
    if (bytes.empty()) {
      pipe.ended = true;
    } else if (ends[1 - from].open) {
      pipe.arrived.push_back(std::move(bytes));
    }
    if (Event* const readable = ends[1 - from].readable) readable->pulse();
  }
  void release_held(std::size_t from) {
    for (std::size_t n = std::exchange(pipes[from].held_back, 0); n > 0; --n) {
      schedule_arrival(from);
    }
  }
  /// Ends what `from` sends, behind everything sent, or, when lossy, behind a prefix of it.
  void end_pipe(std::size_t from, bool lossy) {
    Pipe& pipe = pipes[from];
    if (std::exchange(pipe.ending, true)) return;
    if (lossy && !pipe.flight.empty()) {
      pipe.flight.resize(network.world_.random().below(pipe.flight.size() + 1));
    }
    pipe.flight.emplace_back();
    schedule_arrival(from);
  }
  /// The reader of what `from` sends took `bytes`.
  void note_read(std::size_t from, std::size_t bytes) {
    Pipe& pipe = pipes[from];
    pipe.unread_bytes -= bytes;
    if (!pipe.sender_waits || ends[from].process == nullptr) return;
    pipe.sender_waits = false;
    ends[from].process->start_timer(network.world_.now() + network.draw_delay(),
                                    [self = shared_from_this(), from] {
                                      if (Event* const writable = self->ends[from].writable)
                                        writable->pulse();
                                    });
  }
  void close(std::size_t end, bool lossy) {
    if (!std::exchange(ends[end].open, false)) return;
    pipes[1 - end].arrived.clear();
    end_pipe(end, lossy);
    if (ends[end].readable != nullptr) ends[end].readable->pulse();
    if (ends[end].writable != nullptr) ends[end].writable->pulse();
  }

  SimNetwork& network;
  std::array<End, 2> ends;
  std::array<Pipe, 2> pipes;  // pipes[i]: what ends[i] sends
};

class SimConnection final : public net::Connection {
 public:
  SimConnection(SimNetwork::LinkPtr link, std::size_t end, VirtualScheduler& process)
      : link_(std::move(link)), end_(end), readable_(process), writable_(process) {
    link_->ends[end_].readable = &readable_;
    link_->ends[end_].writable = &writable_;
  }
  ~SimConnection() override {
    link_->ends[end_].readable = nullptr;
    link_->ends[end_].writable = nullptr;
    link_->close(end_, false);
  }

  Task<Result<void>> send(const wire::Frame& frame) override {
    if (!frame.descriptors.empty()) co_return Errc::unsupported;
    auto& pipe = link_->pipes[end_];
    while (is_up() && pipe.unread_bytes >= kWindowBytes) {
      pipe.sender_waits = true;
      static_cast<void>(co_await writable_.wait_pulse());
    }
    if (!link_->ends[end_].open) co_return Errc::closing;
    if (!is_up()) co_return Errc::disconnected;
    if (link_->ends[end_].process == nullptr) co_return success();  // frozen: nobody hears it
    std::vector<std::byte> bytes = encode(frame);
    ++link_->network.frames_sent_;
    const auto opcode = static_cast<std::uint64_t>(frame.header.opcode);
    link_->network.world_.trace("send", opcode << 32 | bytes.size());
    if (pipe.ending) co_return success();  // broken on the way, not known here yet
    pipe.unread_bytes += bytes.size();
    pipe.flight.push_back(std::move(bytes));
    link_->schedule_arrival(end_);
    co_return success();
  }

  Task<Result<wire::Frame>> receive() override {
    auto& pipe = link_->pipes[1 - end_];
    while (link_->ends[end_].open && pipe.arrived.empty() && !pipe.ended) {
      static_cast<void>(co_await readable_.wait_pulse());
    }
    if (!link_->ends[end_].open) co_return Errc::closing;
    if (pipe.arrived.empty()) co_return Errc::disconnected;
    const std::vector<std::byte> bytes = std::move(pipe.arrived.front());
    pipe.arrived.pop_front();
    link_->note_read(1 - end_, bytes.size());
    co_return decode(bytes);
  }

  void close() noexcept override { link_->close(end_, false); }
  [[nodiscard]] net::PeerCredentials peer() const noexcept override {
    net::PeerCredentials credentials;
    credentials.same_host = link_->network.same_host_;
    credentials.pid = link_->ends[1 - end_].pid;
    return credentials;
  }
  [[nodiscard]] bool is_peer_gone() const noexcept override {
    return link_->network.same_host_ && link_->ends[1 - end_].process == nullptr;
  }

 private:
  /// Open here, and the end of the other side not seen.
  [[nodiscard]] bool is_up() const {
    return link_->ends[end_].open && !link_->pipes[1 - end_].ended;
  }
  SimNetwork::LinkPtr link_;
  std::size_t end_;
  Event readable_;
  Event writable_;
};

class SimListener final : public net::Listener {
 public:
  SimListener(SimNetwork& network, VirtualScheduler& process, std::string endpoint)
      : network_(network), process_(process), endpoint_(std::move(endpoint)), arrived_(process) {}
  ~SimListener() override { close(); }

  Task<Result<std::unique_ptr<net::Connection>>> accept() override {
    while (!closed_ && waiting_.empty()) static_cast<void>(co_await arrived_.wait_pulse());
    if (closed_) co_return Errc::closing;
    std::unique_ptr<net::Connection> connection = std::move(waiting_.front());
    waiting_.pop_front();
    co_return connection;
  }
  void close() noexcept override {
    if (std::exchange(closed_, true)) return;
    const auto entry = network_.listeners_.find(endpoint_);
    if (entry != network_.listeners_.end() && entry->second == this) {
      network_.listeners_.erase(entry);
    }
    waiting_.clear();
    arrived_.pulse();
  }
  void add(SimNetwork::LinkPtr link) {
    waiting_.push_back(std::make_unique<SimConnection>(std::move(link), 1, process_));
    arrived_.pulse();
  }
  [[nodiscard]] VirtualScheduler& process() noexcept { return process_; }

 private:
  SimNetwork& network_;
  VirtualScheduler& process_;
  std::string endpoint_;
  Event arrived_;
  std::deque<std::unique_ptr<net::Connection>> waiting_;
  bool closed_ = false;
};

class SimDialer final : public net::Dialer {
 public:
  SimDialer(SimNetwork& network, VirtualScheduler& process)
      : network_(network), process_(process) {}

  Task<Result<std::unique_ptr<net::Connection>>> dial(net::Endpoint endpoint) override {
    const std::string name = plain_endpoint(endpoint.text);
    co_await sleep_for(process_, network_.draw_delay());
    const auto found = network_.listeners_.find(name);
    if (found == network_.listeners_.end()) co_return Error(Errc::disconnected, ECONNREFUSED);
    VirtualScheduler& server = found->second->process();
    if (network_.is_held(process_.pid(), server.pid())) {
      co_await sleep_for(process_, std::chrono::seconds(1));
      co_return Error(Errc::timed_out, ETIMEDOUT);
    }
    const SimNetwork::LinkPtr link = network_.connect(process_, server);
    std::unique_ptr<net::Connection> connection =
        std::make_unique<SimConnection>(link, 0, process_);
    SimNetwork* const network = &network_;
    server.start_timer(process_.now() + network_.draw_delay(), [network, name, link] {
      const auto listener = network->listeners_.find(name);
      if (listener == network->listeners_.end()) {
        link->close(1, false);
      } else {
        listener->second->add(link);
      }
    });
    co_return connection;
  }

 private:
  SimNetwork& network_;
  VirtualScheduler& process_;
};

SimNetwork::~SimNetwork() {
  VMS_ASSERT(listeners_.empty());
}

Duration SimNetwork::draw_delay() {
  Duration delay = world_.random_duration(delay_.least, delay_.most);
  if (delay_.slow_one_in != 0 && world_.random().one_in(delay_.slow_one_in)) {
    delay += world_.random_duration(Duration(0), delay_.slow);
  }
  return delay;
}

void SimNetwork::watch(VirtualScheduler& process) {
  if (!watched_.insert(process.pid()).second) return;
  process.on_freeze([this, pid = process.pid()] { forget(pid); });
}

std::unique_ptr<net::Listener> SimNetwork::listen(VirtualScheduler& process,
                                                  const std::string& endpoint) {
  watch(process);
  auto listener = std::make_unique<SimListener>(*this, process, plain_endpoint(endpoint));
  const bool is_free = listeners_.emplace(plain_endpoint(endpoint), listener.get()).second;
  VMS_ASSERT(is_free);
  return listener;
}

std::unique_ptr<net::Dialer> SimNetwork::dialer(VirtualScheduler& process) {
  watch(process);
  return std::make_unique<SimDialer>(*this, process);
}

SimNetwork::LinkPtr SimNetwork::connect(VirtualScheduler& from, VirtualScheduler& to) {
  watch(to);
  const auto link = std::make_shared<Link>(*this);
  link->ends[0].process = &from;
  link->ends[0].pid = from.pid();
  link->ends[1].process = &to;
  link->ends[1].pid = to.pid();
  std::erase_if(links_, [](const std::weak_ptr<Link>& old) { return old.expired(); });
  links_.push_back(link);
  return link;
}

void SimNetwork::forget(std::uint32_t pid) {
  std::erase_if(listeners_,
                [&](const auto& entry) { return entry.second->process().pid() == pid; });
  for (const auto& weak : links_) {
    const LinkPtr link = weak.lock();
    for (std::size_t end = 0; link && end < 2; ++end) {
      if (link->ends[end].pid != pid) continue;
      link->ends[end].process = nullptr;
      link->end_pipe(end, true);
    }
  }
}

void SimNetwork::break_connections(const VirtualScheduler& process) {
  for (const auto& weak : links_) {
    const LinkPtr link = weak.lock();
    if (!link) continue;
    if (link->ends[0].pid != process.pid() && link->ends[1].pid != process.pid()) continue;
    link->end_pipe(0, true);
    link->end_pipe(1, true);
  }
}

void SimNetwork::hold(const VirtualScheduler& from, const VirtualScheduler& to) {
  held_.emplace(from.pid(), to.pid());
}

void SimNetwork::release(const VirtualScheduler& from, const VirtualScheduler& to) {
  held_.erase({from.pid(), to.pid()});
  for (const auto& weak : links_) {
    const LinkPtr link = weak.lock();
    for (std::size_t end = 0; link && end < 2; ++end) {
      if (link->ends[end].pid == from.pid() && link->ends[1 - end].pid == to.pid()) {
        link->release_held(end);
      }
    }
  }
}

}  // namespace vmstore::sim
