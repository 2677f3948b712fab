// SPDX-License-Identifier: Apache-2.0
#include "cli/interrupt.h"

#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <string_view>

namespace vmstore::cli {
namespace {

// A signal handler can reach nothing else than such variables.
std::atomic<int> scopes{0};
std::atomic<int> reason{0};  // the first signal
static_assert(std::atomic<int>::is_always_lock_free);

int exit_code_for(int number) noexcept {
  return static_cast<int>(number == SIGALRM ? ExitCode::unreachable : ExitCode::interrupted);
}

extern "C" void on_interrupt(int number) {
  int none = 0;
  if (reason.compare_exchange_strong(none, number) && scopes.load() > 0) return;
  if (number == SIGALRM) {
    constexpr std::string_view kText = "vmstore: no answer within --timeout\n";
    static_cast<void>(!write(STDERR_FILENO, kText.data(), kText.size()));
  }
  _exit(exit_code_for(number));
}

}  // namespace

void install_interrupt_handlers() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGALRM}) sigaction(number, &action, nullptr);
  // A reader that went away is an error of write(), seen where it happens.
  std::signal(SIGPIPE, SIG_IGN);
}

void limit_time(std::chrono::milliseconds timeout) {
  itimerval timer{};
  timer.it_value.tv_sec = timeout.count() / 1000;
  timer.it_value.tv_usec = timeout.count() % 1000 * 1000;
  setitimer(ITIMER_REAL, &timer, nullptr);
}

bool interrupted() noexcept {
  return reason.load() != 0;
}

Failure interruption() {
  if (reason.load() == SIGALRM) return Failure::from(Errc::timed_out, {}, "give more --timeout");
  return Failure::from(Errc::interrupted, {});
}

KeepGoing::KeepGoing() noexcept {
  scopes.fetch_add(1);
}

KeepGoing::~KeepGoing() {
  scopes.fetch_sub(1);
}

}  // namespace vmstore::cli
