// SPDX-License-Identifier: Apache-2.0
// The control protocol between the command line and `vmstore up`: one JSON object a line, over a
// unix socket that only the same user and root may use.
//
// Invariants: a line is at most kControlLineBytesMax long, else the connection ends; whatever is no
// request is answered as a failure and changes nothing; one request is under way per connection.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/failure.h"
#include "cli/json.h"
#include "cli/process.h"

namespace vmstore::cli {

inline constexpr std::size_t kControlLineBytesMax = std::size_t{64} << 10;
/// The answer to `list` names every export: it may be longer than a request.
inline constexpr std::size_t kControlAnswerBytesMax = std::size_t{16} << 20;
inline constexpr std::size_t kControlConnectionsMax = 64;
inline constexpr std::chrono::seconds kControlIdleMax{30};

enum class ControlOp { attach, detach, list, stop };

struct ControlRequest {
  ControlOp op = ControlOp::list;
  std::string reference;    // attach, detach: NAME or NAME@SNAP
  bool persistent = false;  // attach: again at the next `up`
  bool read_only = false;   // attach
  bool force = false;       // detach, stop: although clients are connected
};

[[nodiscard]] std::string encode_request(const ControlRequest& request);
/// REQUIRES: `line` has no newline. Anything but a request is a usage failure.
[[nodiscard]] Answer<ControlRequest> decode_request(std::string_view line);

[[nodiscard]] std::string encode_success(json::object fields);
[[nodiscard]] std::string encode_failure(const Failure& failure);
/// The fields of a success, or the failure that was sent.
[[nodiscard]] Answer<json::object> decode_answer(std::string_view line);

/// Collects lines from a stream of bytes.
class LineBuffer {
 public:
  explicit LineBuffer(std::size_t line_bytes_max) : line_bytes_max_(line_bytes_max) {}
  /// False when a line is too long: the stream is of no more use.
  [[nodiscard]] bool push(std::string_view bytes);
  /// The next whole line, without its end.
  [[nodiscard]] std::optional<std::string> pop();
  [[nodiscard]] std::string_view rest() const noexcept { return buffer_; }

 private:
  std::size_t line_bytes_max_;
  std::string buffer_;
};

/// One connected unix socket to `path`; `timed_out`, `not_found` when nobody listens.
[[nodiscard]] Result<UniqueFd> connect_unix(const std::string& path);
/// Whether a process listens there. Never waits, not for one that does not accept either.
[[nodiscard]] bool somebody_listens(const std::string& path);
/// A listening unix socket, mode 0600, in place of whatever is at `path`.
[[nodiscard]] Result<UniqueFd> listen_unix(const std::string& path, int backlog);
/// Whether the peer is this user or root.
[[nodiscard]] bool peer_may_control(int fd);

/// Sends one request to the supervisor of `run_folder` and waits for its answer.
[[nodiscard]] Answer<json::object> call_supervisor(const std::string& run_folder,
                                                   const ControlRequest& request,
                                                   std::chrono::milliseconds timeout);
/// Whether a supervisor answers there at all.
[[nodiscard]] bool supervisor_is_there(const std::string& run_folder);

}  // namespace vmstore::cli
