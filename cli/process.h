// SPDX-License-Identifier: Apache-2.0
// Starting other programs: nothing but the named descriptors is inherited, the signal mask is
// clean, the terminal's Ctrl-C does not reach them, and they die with this process where wanted.
//
// THREADS: any; between fork and exec only async-signal-safe calls are made. A child that dies with
// its parent dies with the thread that started it: start those from the main thread.
#pragma once

#include <sys/types.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/failure.h"

namespace vmstore::cli {

/// A descriptor that is closed once.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  ~UniqueFd();
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset() noexcept;

 private:
  int fd_ = -1;
};

struct ProcessSpec {
  std::vector<std::string> argv;  // argv[0] is the path of the program
  std::vector<std::pair<std::string, std::string>> environment;  // added to ours
  int listen_fd = -1;           // handed over as systemd does: descriptor 3, LISTEN_FDS, LISTEN_PID
  int stdin_fd = -1;            // -1: /dev/null
  int stdout_fd = -1;           // -1: ours
  int stderr_fd = -1;           // -1: ours
  bool die_with_parent = true;  // by SIGKILL: NBD clients then wait for a new server, see docs
};

/// Starts the program. A failed exec is reported here, not by the child's exit status.
[[nodiscard]] Answer<pid_t> start_process(const ProcessSpec& spec);

/// A child that is killed and reaped when its owner leaves.
class ChildProcess {
 public:
  ChildProcess() = default;
  explicit ChildProcess(pid_t pid) noexcept : pid_(pid) {}
  ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}
  ChildProcess& operator=(ChildProcess&&) = delete;
  ~ChildProcess();
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }
  /// True while it runs; reaps it when it has ended.
  [[nodiscard]] bool is_running();
  /// Waits for the end; the wait status.
  int wait();

 private:
  pid_t pid_ = -1;
  int status_ = 0;
};

struct CapturedRun {
  int exit_code = -1;  // 128 + signal when killed
  std::string out;
  std::string err;
};
/// Runs a program to its end; output beyond 4 MiB is dropped. Stops it when interrupted.
[[nodiscard]] Answer<CapturedRun> run_and_capture(std::vector<std::string> argv);
/// The same, but hands each line of stdout to `on_line` instead of keeping it; `on_line` ends the
/// program by returning a failure.
using LineFunction = std::function<Answer<void>(std::string_view)>;
[[nodiscard]] Answer<CapturedRun> run_and_capture(std::vector<std::string> argv,
                                                  const LineFunction& on_line);

/// The path of a program of ours or of the system: beside this executable, in the folder of the
/// build tree that makes it, then in PATH.
[[nodiscard]] Answer<std::string> find_program(std::string_view name,
                                               std::string_view package = {});
/// The path of the nbdkit plugin, or "vmstore" for nbdkit to find it among its own.
[[nodiscard]] std::string find_nbdkit_plugin();

/// "signal 9 (Killed)" or "status 1".
[[nodiscard]] std::string describe_exit(int wait_status);

}  // namespace vmstore::cli
