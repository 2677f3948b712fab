// SPDX-License-Identifier: Apache-2.0
#include "nbd-plugin/stop_signal.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <memory>

namespace vmstore::nbd_plugin {
namespace {

sigset_t stop_signals() noexcept {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGUSR1);
  return signals;
}

}  // namespace

void StopSignal::block() noexcept {
  const sigset_t signals = stop_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
}

Result<std::unique_ptr<StopSignal>> StopSignal::watch(std::function<void()> on_stop) {
  const sigset_t signals = stop_signals();
  const int end_fd = eventfd(0, EFD_CLOEXEC);
  if (end_fd < 0) return last_os_error();
  const int signal_fd = signalfd(-1, &signals, SFD_CLOEXEC);
  if (signal_fd < 0) {
    const Error error = last_os_error();
    close(end_fd);
    return error;
  }
  std::unique_ptr<StopSignal> watch(new StopSignal(signal_fd, end_fd, std::move(on_stop)));
  watch->thread_ = std::thread([target = watch.get()] { target->run(); });
  return watch;
}

StopSignal::~StopSignal() {
  const std::uint64_t one = 1;
  // An eventfd that nobody has written to takes it.
  [[maybe_unused]] const auto wrote = write(end_fd_, &one, sizeof(one));
  if (thread_.joinable()) thread_.join();
  close(signal_fd_);
  close(end_fd_);
}

void StopSignal::run() {
  std::array<pollfd, 2> fds{{{signal_fd_, POLLIN, 0}, {end_fd_, POLLIN, 0}}};
  while (poll(fds.data(), fds.size(), -1) < 0 && errno == EINTR) continue;
  signalfd_siginfo taken{};
  if (fds[0].revents != 0 && read(signal_fd_, &taken, sizeof(taken)) == sizeof(taken)) on_stop_();
}

}  // namespace vmstore::nbd_plugin
