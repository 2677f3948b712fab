// SPDX-License-Identifier: Apache-2.0
#include "cli/control.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/units.h"
#include "cli/run_folder.h"

namespace vmstore::cli {
namespace {

struct OpName {
  ControlOp op;
  std::string_view name;
};
constexpr std::array<OpName, 4> kOps{{{ControlOp::attach, "attach"},
                                      {ControlOp::detach, "detach"},
                                      {ControlOp::list, "list"},
                                      {ControlOp::stop, "stop"}}};

ExitCode exit_code_from(std::uint64_t number) {
  const auto code = static_cast<ExitCode>(number);
  // An exit code of a newer version is still a failure.
  return number != 0 && (number <= 9 || code == ExitCode::interrupted) ? code : ExitCode::failed;
}

bool fill_address(const std::string& path, sockaddr_un& address) {
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  return true;
}

const sockaddr* as_sockaddr(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

Result<void> send_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t sent = send(fd, text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return last_os_error();
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

Result<std::string> read_line(int fd, std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  LineBuffer lines(kControlAnswerBytesMax);
  std::array<char, 16384> buffer{};
  while (true) {
    if (std::optional<std::string> line = lines.pop()) return std::move(*line);
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now());
    if (left.count() <= 0) return Errc::timed_out;
    pollfd waited{fd, POLLIN, 0};
    if (poll(&waited, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) {
      return last_os_error();
    }
    if (waited.revents == 0) continue;
    const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return Errc::disconnected;
    if (!lines.push({buffer.data(), static_cast<std::size_t>(got)})) return Errc::bad_frame;
  }
}

}  // namespace

std::string encode_request(const ControlRequest& request) {
  json::object object;
  for (const OpName& known : kOps) {
    if (known.op == request.op) object["op"] = known.name;
  }
  if (!request.reference.empty()) object["name"] = request.reference;
  if (request.persistent) object["persistent"] = true;
  if (request.read_only) object["read_only"] = true;
  if (request.force) object["force"] = true;
  return json::serialize(object);
}

Answer<ControlRequest> decode_request(std::string_view line) {
  const std::optional<json::object> object = parse_json_object(line);
  if (!object) return Failure::usage("not a JSON object");
  const std::string op = json_text(*object, "op").value_or("");
  const auto known =
      std::find_if(kOps.begin(), kOps.end(), [&](const OpName& o) { return o.name == op; });
  if (known == kOps.end()) return Failure::usage("unknown op");
  ControlRequest request;
  request.op = known->op;
  request.reference = json_text(*object, "name").value_or("");
  request.persistent = json_flag(*object, "persistent");
  request.read_only = json_flag(*object, "read_only");
  request.force = json_flag(*object, "force");
  const bool needs_name = request.op == ControlOp::attach || request.op == ControlOp::detach;
  if (needs_name && !parse_disk_reference(request.reference)) {
    return Failure::usage("not a name of a disk or snapshot");
  }
  return request;
}

std::string encode_success(json::object fields) {
  json::object object;
  object["ok"] = true;
  for (auto& field : fields) object.insert(field);
  return json::serialize(object);
}

std::string encode_failure(const Failure& failure) {
  json::object object;
  object["ok"] = false;
  object["exit_code"] = static_cast<std::uint64_t>(failure.exit_code);
  object["code"] = failure.code;
  object["object"] = failure.object;
  object["message"] = failure.what;
  object["hint"] = failure.hint;
  return json::serialize(object);
}

Answer<json::object> decode_answer(std::string_view line) {
  std::optional<json::object> object = parse_json_object(line);
  if (!object) {
    return Failure::make(ExitCode::failed, "vmstore up", "answered something that is not JSON");
  }
  if (json_flag(*object, "ok")) return std::move(*object);
  Failure failure;
  failure.exit_code = exit_code_from(json_count(*object, "exit_code").value_or(1));
  failure.code = json_text(*object, "code").value_or("failed");
  failure.object = json_text(*object, "object").value_or("");
  failure.what = json_text(*object, "message").value_or("failed");
  failure.hint = json_text(*object, "hint").value_or("");
  return failure;
}

bool LineBuffer::push(std::string_view bytes) {
  buffer_.append(bytes);
  return buffer_.find('\n') != std::string::npos || buffer_.size() <= line_bytes_max_;
}

std::optional<std::string> LineBuffer::pop() {
  const auto end = buffer_.find('\n');
  if (end == std::string::npos) return std::nullopt;
  std::string line = buffer_.substr(0, end);
  buffer_.erase(0, end + 1);
  return line;
}

Result<UniqueFd> connect_unix(const std::string& path) {
  sockaddr_un address{};
  if (!fill_address(path, address)) return Errc::invalid_argument;
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return last_os_error();
  if (connect(fd.get(), as_sockaddr(address), sizeof(address)) != 0) {
    const int error = errno;
    if (error == ECONNREFUSED || error == ENOENT) return Error(Errc::not_found, error);
    return Error(errno_to_errc(error), error);
  }
  return fd;
}

Result<UniqueFd> listen_unix(const std::string& path, int backlog) {
  sockaddr_un address{};
  if (!fill_address(path, address)) return Errc::invalid_argument;
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return last_os_error();
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return last_os_error();
  const mode_t before = umask(0177);
  const int bound = bind(fd.get(), as_sockaddr(address), sizeof(address));
  const Error error = bound == 0 ? Error(Errc::ok) : last_os_error();
  umask(before);
  if (bound != 0) return error;
  if (listen(fd.get(), backlog) != 0) return last_os_error();
  return fd;
}

bool peer_may_control(int fd) {
  ucred peer{};
  socklen_t size = sizeof(peer);
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == geteuid() || peer.uid == 0;
}

Answer<json::object> call_supervisor(const std::string& run_folder,
                                     const ControlRequest& request,
                                     std::chrono::milliseconds timeout) {
  const std::string path = control_socket(run_folder);
  Result<UniqueFd> fd = connect_unix(path);
  if (!fd) {
    return Failure::make(ExitCode::unreachable,
                         path,
                         "no `vmstore up` answers here",
                         "vmstore up --detach (or name its folder with --run-dir)");
  }
  VMS_CHECK(about(send_all(fd->get(), encode_request(request) + "\n"), path));
  VMS_TRY(const std::string line, about(read_line(fd->get(), timeout), path));
  return decode_answer(line);
}

bool somebody_listens(const std::string& path) {
  sockaddr_un address{};
  if (!fill_address(path, address)) return false;
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return false;
  // EAGAIN: more wait there already than a backlog holds.
  return connect(fd.get(), as_sockaddr(address), sizeof(address)) == 0 || errno == EAGAIN;
}

bool supervisor_is_there(const std::string& run_folder) {
  return somebody_listens(control_socket(run_folder));
}

}  // namespace vmstore::cli
