// SPDX-License-Identifier: Apache-2.0
// Supervisor: keeps programs running. Decisions only; processes and time come from outside.
//
// Invariants: a service has at most one process; a process that ends unasked is started again, at
// once the first time, then after a pause that doubles up to a bound and starts anew when it has
// run well for a while; a stopped service is gone only when its process is.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/process.h"

namespace vmstore::cli {

using SupervisorTime = std::chrono::steady_clock::time_point;

struct ServiceSpec {
  std::string name;
  ProcessSpec process;
  int stop_signal = SIGTERM;  // asks for a planned stop; SIGKILL follows after stop_wait
};

enum class ServiceState { running, waiting, stopping };

struct Service {
  ServiceSpec spec;
  ServiceState state = ServiceState::waiting;
  pid_t pid = -1;  // while running or stopping
  std::uint64_t starts = 0;
  std::string last_end;  // how its last process ended, or why it could not be started
  int last_code = 0;     // its exit status; 0 also when a signal ended it
  SupervisorTime since;  // running: of the start; waiting: of the next start;
                         // stopping: when patience ends
  std::chrono::milliseconds pause{0};
};

class Supervisor {
 public:
  struct Options {
    std::chrono::milliseconds pause_first{100};
    std::chrono::milliseconds pause_last{5000};
    std::chrono::milliseconds well_after{10000};  // having run so long, a death is a first death
    std::chrono::milliseconds stop_wait{30000};
  };
  /// What it acts through.
  class Host {
   public:
    virtual ~Host() = default;
    [[nodiscard]] virtual Answer<pid_t> start(const ServiceSpec& spec) = 0;
    virtual void signal(pid_t pid, int number) = 0;
    /// For the log: a service started again, could not start, had to be killed.
    virtual void report(std::string_view service, std::string_view what) = 0;
  };

  Supervisor(Host& host, const Options& options) : host_(host), options_(options) {}

  /// Starts the service now. REQUIRES: no service of that name.
  void add(ServiceSpec spec, SupervisorTime now);
  /// Asks it to stop; it is gone at once when it has no process.
  void stop(const std::string& name, SupervisorTime now);
  /// Some child of this process ended. False when it is none of ours.
  bool on_exit(pid_t pid, int wait_status, SupervisorTime now);
  /// Does what is due.
  void on_time(SupervisorTime now);
  /// When on_time has something to do next.
  [[nodiscard]] std::optional<SupervisorTime> next_time() const;

  [[nodiscard]] const Service* find(const std::string& name) const;
  [[nodiscard]] const std::map<std::string, Service>& services() const noexcept {
    return services_;
  }

 private:
  void start(Service& service, SupervisorTime now);
  void wait_before_next(Service& service, SupervisorTime now);

  Host& host_;
  Options options_;
  std::map<std::string, Service> services_;
};

/// "running", "waiting", "stopping".
[[nodiscard]] std::string_view service_state_name(ServiceState state) noexcept;

}  // namespace vmstore::cli
