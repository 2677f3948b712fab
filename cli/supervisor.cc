// SPDX-License-Identifier: Apache-2.0
#include "cli/supervisor.h"

#include <sys/wait.h>

#include <algorithm>

#include "base/assert.h"

namespace vmstore::cli {

std::string_view service_state_name(ServiceState state) noexcept {
  switch (state) {
    case ServiceState::running:
      return "running";
    case ServiceState::waiting:
      return "waiting";
    case ServiceState::stopping:
      return "stopping";
  }
  return "waiting";
}

void Supervisor::add(ServiceSpec spec, SupervisorTime now) {
  VMS_ASSERT(!services_.contains(spec.name));
  Service& service = services_[spec.name];
  service.spec = std::move(spec);
  start(service, now);
}

void Supervisor::start(Service& service, SupervisorTime now) {
  ++service.starts;
  Answer<pid_t> pid = host_.start(service.spec);
  if (!pid) {
    service.last_end = pid.error().object + ": " + pid.error().what;
    host_.report(service.spec.name, service.last_end);
    wait_before_next(service, now);
    return;
  }
  service.state = ServiceState::running;
  service.pid = *pid;
  service.since = now;
}

void Supervisor::wait_before_next(Service& service, SupervisorTime now) {
  service.state = ServiceState::waiting;
  service.pid = -1;
  service.since = now + service.pause;
  service.pause = std::clamp(service.pause * 2, options_.pause_first, options_.pause_last);
}

void Supervisor::stop(const std::string& name, SupervisorTime now) {
  const auto found = services_.find(name);
  if (found == services_.end()) return;
  Service& service = found->second;
  if (service.state == ServiceState::waiting) {
    services_.erase(found);
    return;
  }
  if (service.state == ServiceState::stopping) return;
  service.state = ServiceState::stopping;
  service.since = now + options_.stop_wait;
  host_.signal(service.pid, service.spec.stop_signal);
}

bool Supervisor::on_exit(pid_t pid, int wait_status, SupervisorTime now) {
  const auto found = std::find_if(services_.begin(), services_.end(), [&](const auto& entry) {
    return entry.second.pid == pid;
  });
  if (found == services_.end()) return false;
  Service& service = found->second;
  if (service.state == ServiceState::stopping) {
    services_.erase(found);
    return true;
  }
  service.last_end = describe_exit(wait_status);
  service.last_code = WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 0;
  if (now - service.since >= options_.well_after) service.pause = std::chrono::milliseconds(0);
  host_.report(service.spec.name, "ended with " + service.last_end + ", is started again");
  wait_before_next(service, now);
  return true;
}

void Supervisor::on_time(SupervisorTime now) {
  for (auto& [name, service] : services_) {
    if (service.since > now) continue;
    if (service.state == ServiceState::waiting) {
      start(service, now);
    } else if (service.state == ServiceState::stopping) {
      host_.report(name, "did not stop in time and is killed");
      host_.signal(service.pid, SIGKILL);
      service.since = now + options_.stop_wait;
    }
  }
}

std::optional<SupervisorTime> Supervisor::next_time() const {
  std::optional<SupervisorTime> next;
  for (const auto& [name, service] : services_) {
    if (service.state == ServiceState::running) continue;
    if (!next || service.since < *next) next = service.since;
  }
  return next;
}

const Service* Supervisor::find(const std::string& name) const {
  const auto found = services_.find(name);
  return found == services_.end() ? nullptr : &found->second;
}

}  // namespace vmstore::cli
