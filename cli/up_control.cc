// SPDX-License-Identifier: Apache-2.0
// The control side of UpService: connections, and what they ask for.
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "cli/output.h"
#include "cli/run_folder.h"
#include "cli/up_service.h"

namespace vmstore::cli {
namespace {

std::string service_of(std::string_view reference) {
  return "nbd:" + std::string(reference);
}

/// Sends what the socket takes now; false when the peer is gone.
bool send_some(int fd, std::string& text) {
  while (!text.empty()) {
    const ssize_t sent = send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno == EAGAIN;
    text.erase(0, static_cast<std::size_t>(sent));
  }
  return true;
}

Failure is_stopping() {
  return Failure::make(ExitCode::busy, "vmstore up", "is stopping", "start it again");
}

}  // namespace

void UpService::accept_connections(SupervisorTime now) {
  while (true) {
    UniqueFd fd(accept4(control_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;
    if (connections_.size() >= kControlConnectionsMax || !peer_may_control(fd.get())) continue;
    ControlConnection& connection = connections_.emplace_back();
    connection.fd = std::move(fd);
    connection.last_used = now;
  }
}

void UpService::on_connection(ControlConnection& connection, SupervisorTime now) {
  connection.last_used = now;
  std::array<char, 4096> buffer{};
  const bool is_waiting = connection.is_waiting();
  if (is_waiting && connection.to_send.empty()) {
    connection.fd.reset();  // it hung up; what it asked for goes on
    return;
  }
  if (!is_waiting) {
    const ssize_t got = recv(connection.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    const bool is_over = got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
    if (is_over ||
        (got > 0 && !connection.lines.push({buffer.data(), static_cast<std::size_t>(got)}))) {
      connection.fd.reset();
      return;
    }
    while (!connection.is_waiting()) {
      const std::optional<std::string> line = connection.lines.pop();
      if (!line) break;
      if (std::optional<std::string> answer = handle(connection, *line, now)) {
        connection.to_send += *answer + "\n";
      }
    }
  }
  if (connection.to_send.size() > kControlAnswerBytesMax ||
      !send_some(connection.fd.get(), connection.to_send)) {
    connection.fd.reset();
  }
}

std::optional<std::string> UpService::handle(ControlConnection& connection,
                                             std::string_view line,
                                             SupervisorTime now) {
  const Answer<ControlRequest> request = decode_request(line);
  if (!request) return encode_failure(request.error());
  const bool is_stopping_now = phase_ != Phase::running && phase_ != Phase::starting;
  if (phase_ == Phase::starting && request->op != ControlOp::stop) {
    connection.waits_for_node = line;  // before that, what is remembered is not attached yet
    return std::nullopt;
  }
  switch (request->op) {
    case ControlOp::list:
      return encode_success(describe_all());
    case ControlOp::attach: {
      if (is_stopping_now) return encode_failure(is_stopping());
      Answer<json::object> attached = attach(*request, now);
      if (!attached) return encode_failure(attached.error());
      return encode_success(std::move(*attached));
    }
    case ControlOp::detach: {
      if (is_stopping_now) return encode_failure(is_stopping());
      const Answer<void> is_free = check_free(request->reference, request->force);
      if (!is_free) return encode_failure(is_free.error());
      supervisor_.stop(service_of(request->reference), now);
      detaching_.insert(request->reference);
      connection.waits_for_detach = request->reference;
      return std::nullopt;
    }
    case ControlOp::stop: {
      for (const auto& [reference, exported] : exports_.all()) {
        const Answer<void> is_free = check_free(reference, request->force);
        if (!is_free) return encode_failure(is_free.error());
      }
      connection.waits_for_stop = true;
      if (!is_stopping_now) begin_stop(now);
      return std::nullopt;
    }
  }
  return std::nullopt;
}

Answer<json::object> UpService::attach(const ControlRequest& request, SupervisorTime now) {
  const bool read_only = request.read_only || request.reference.find('@') != std::string::npos;
  const Export* exported = exports_.find(request.reference);
  const bool is_new = exported == nullptr;
  if (!is_new && exported->attachment.read_only != read_only) {
    return Failure::make(ExitCode::busy,
                         request.reference,
                         read_only ? "is attached writable" : "is attached read-only",
                         "vmstore detach " + request.reference);
  }
  const Service* service = supervisor_.find(service_of(request.reference));
  if (service != nullptr && service->state == ServiceState::stopping) {
    return Failure::make(ExitCode::busy, request.reference, "is being detached", "try again");
  }
  if (is_new) {
    Attachment attachment{request.reference, read_only, request.persistent};
    VMS_TRY(exported, exports_.add(attachment));
    last_lines_.erase(service_of(request.reference));
    supervisor_.add(export_spec(*exported), now);
  } else if (request.persistent) {
    VMS_CHECK(exports_.make_persistent(request.reference));
  }
  json::object answer = describe(*exported, {});
  answer["is_new"] = is_new;
  return answer;
}

Answer<void> UpService::check_free(const std::string& reference, bool force) const {
  const Export* exported = exports_.find(reference);
  if (exported == nullptr) {
    return Failure::make(ExitCode::not_found, reference, "is not attached", "vmstore nbd ls");
  }
  const std::size_t clients = count_clients(read_proc_net_unix(), exported->socket);
  if (clients == 0 || force) return {};
  return Failure::make(
      ExitCode::busy,
      reference,
      std::to_string(clients) + (clients == 1 ? " client is" : " clients are") + " connected",
      "stop the virtual machine first, or use --force: its disk then hangs until "
      "it is attached again");
}

json::object UpService::describe(const Export& exported, std::string_view sockets) const {
  const std::string name = service_of(exported.attachment.reference);
  json::object object;
  object["name"] = exported.attachment.reference;
  object["socket"] = exported.socket;
  object["uri"] = nbd_uri(exported.attachment.reference, exported.socket);
  object["read_only"] = exported.attachment.read_only;
  object["persistent"] = exported.attachment.persistent;
  object["clients"] = count_clients(sockets, exported.socket);
  if (const Service* service = supervisor_.find(name); service != nullptr) {
    object["state"] = service_state_name(service->state);
    if (service->pid > 0) object["pid"] = static_cast<std::uint64_t>(service->pid);
    object["starts"] = service->starts;
    object["last_end"] = service->last_end;
  }
  object["last_line"] = last_lines(name);
  return object;
}

json::object UpService::describe_all() const {
  const std::string sockets = read_proc_net_unix();
  json::array exports;
  for (const auto& [reference, exported] : exports_.all()) {
    exports.push_back(describe(exported, sockets));
  }
  json::object object;
  object["exports"] = std::move(exports);
  object["endpoint"] = options_.nodes.empty() ? node_socket(options_.run_folder) : options_.nodes;
  object["data_folder"] = options_.data_folder;
  object["pid"] = static_cast<std::uint64_t>(getpid());
  if (const Service* node = supervisor_.find("vmstored"); node != nullptr) {
    object["node_state"] = service_state_name(node->state);
    if (node->pid > 0) object["node_pid"] = static_cast<std::uint64_t>(node->pid);
    object["node_starts"] = node->starts;
  }
  return object;
}

void UpService::finish_detaching() {
  for (auto at = detaching_.begin(); at != detaching_.end();) {
    if (supervisor_.find(service_of(*at)) != nullptr) {
      ++at;
      continue;
    }
    if (Answer<void> removed = exports_.remove(*at); !removed) {
      report(*at, removed.error().object + ": " + removed.error().what);
    }
    at = detaching_.erase(at);
  }
}

void UpService::answer_waiting(SupervisorTime now) {
  for (ControlConnection& connection : connections_) {
    if (connection.waits_for_node && phase_ != Phase::starting) {
      const std::string line = *std::exchange(connection.waits_for_node, std::nullopt);
      connection.to_send += handle(connection, line, now).value_or("") + "\n";
      if (!send_some(connection.fd.get(), connection.to_send)) connection.fd.reset();
      continue;
    }
    const bool is_detached =
        connection.waits_for_detach && !detaching_.contains(*connection.waits_for_detach);
    const bool is_stopped = connection.waits_for_stop && phase_ == Phase::stopped;
    if (!is_detached && !is_stopped) continue;
    connection.waits_for_detach.reset();
    connection.waits_for_stop = false;
    connection.to_send += encode_success({}) + "\n";
    if (!send_some(connection.fd.get(), connection.to_send)) connection.fd.reset();
  }
  connections_.remove_if([](const ControlConnection& c) { return !c.fd; });
}

}  // namespace vmstore::cli
