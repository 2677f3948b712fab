// SPDX-License-Identifier: Apache-2.0
// AsioSocket: a nonblocking descriptor whose readiness a task can wait for. Only for files of net/
// that use Asio.
#pragma once

#include <boost/asio/posix/stream_descriptor.hpp>
#include <coroutine>
#include <memory>
#include <utility>

#include "net/asio_loop.h"

namespace vmstore::net {

/// THREADS: of its IoThread. OWNS: the descriptor. One task waits for each direction at a time.
class AsioSocket {
 public:
  AsioSocket(IoThread& io, int fd) : state_(std::make_shared<State>(io, fd)) {}
  AsioSocket(AsioSocket&&) noexcept = default;
  AsioSocket& operator=(AsioSocket&&) = delete;
  AsioSocket(const AsioSocket&) = delete;
  AsioSocket& operator=(const AsioSocket&) = delete;
  ~AsioSocket() { close(); }

  [[nodiscard]] int fd() const noexcept { return state_->fd; }
  [[nodiscard]] bool is_closed() const noexcept { return state_->closed; }
  [[nodiscard]] IoThread& io() const noexcept { return state_->io; }
  /// Resumes the waiters; they look at is_closed().
  void close() noexcept {
    if (state_) state_->close();
  }

 private:
  using Descriptor = boost::asio::posix::stream_descriptor;
  struct Side {
    Descriptor::wait_type direction;
    std::coroutine_handle<> waiter;
    bool armed = false;
  };

  /// Shared with the handlers that the event loop holds.
  struct State : std::enable_shared_from_this<State> {
    State(IoThread& owner, int socket_fd)
        : io(owner), fd(socket_fd), descriptor(owner.loop().context, socket_fd) {}
    void arm(Side& side) {
      side.armed = true;
      descriptor.async_wait(side.direction, [self = shared_from_this(), &side](const auto&) {
        self->io.loop().enter([&side] {
          side.armed = false;
          if (const auto waiter = std::exchange(side.waiter, nullptr)) waiter.resume();
        });
      });
    }
    void close() noexcept;
    IoThread& io;
    int fd;
    Descriptor descriptor;
    Side read_side{Descriptor::wait_read, {}, false};
    Side write_side{Descriptor::wait_write, {}, false};
    bool closed = false;
  };

  /// Resumes when a system call may get on, or the socket was closed; it may be too early.
  class Ready {
   public:
    Ready(std::shared_ptr<State> state, Side& side) : state_(std::move(state)), side_(side) {}
    Ready(const Ready&) = delete;
    Ready& operator=(const Ready&) = delete;
    ~Ready() {
      if (waiting_) side_.waiter = nullptr;
    }
    [[nodiscard]] bool await_ready() const noexcept { return state_->closed; }
    void await_suspend(std::coroutine_handle<> task) {
      waiting_ = true;
      side_.waiter = task;
      if (!side_.armed) state_->arm(side_);
    }
    void await_resume() noexcept { waiting_ = false; }

   private:
    std::shared_ptr<State> state_;
    Side& side_;
    bool waiting_ = false;
  };

 public:
  [[nodiscard]] Ready readable() { return {state_, state_->read_side}; }
  [[nodiscard]] Ready writable() { return {state_, state_->write_side}; }

 private:
  std::shared_ptr<State> state_;
};

/// Closes a socket when it is too late, unless it is destroyed before.
class CloseTimer {
 public:
  CloseTimer(AsioSocket& socket, Duration after)
      : io_(socket.io()),
        timer_(io_.start_timer(io_.now() + after, [&socket] { socket.close(); })) {}
  CloseTimer(const CloseTimer&) = delete;
  CloseTimer& operator=(const CloseTimer&) = delete;
  ~CloseTimer() { io_.cancel_timer(timer_); }

 private:
  IoThread& io_;
  Scheduler::TimerId timer_;
};

/// A connected TCP socket that a listener accepted, with the buffers and options of ours.
[[nodiscard]] AsioSocket tuned_socket(IoThread& io, int socket_fd);

}  // namespace vmstore::net
