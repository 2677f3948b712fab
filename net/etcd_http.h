// SPDX-License-Identifier: Apache-2.0
// HttpConnection: as much of an HTTP/1.1 client as etcd's JSON gateway needs: one exchange at a
// time on a connection that is kept, and answers that never end, read line by line.
//
// Invariants: what the server sends is bounded before memory is taken (kHttpAnswerBytesMax,
// kHttpLineBytesMax); a connection on which anything went wrong is closed and never used again; a
// deadline that passes closes it.
// Everything that touches the socket is in Stream (etcd_http.cc): TLS gets its place there.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/limits.h"
#include "base/result.h"
#include "base/task.h"
#include "base/time.h"
#include "net/connection.h"
#include "net/io_thread.h"

namespace vmstore::net {

/// A range of limits::kMetaRangeBytesMax and kMetaRangeMax keys in base64, with its names.
inline constexpr std::uint64_t kHttpAnswerBytesMax = 2 * limits::kMiB;
/// etcd cuts its messages at 1.5 MiB; small changes grow by five as JSON.
inline constexpr std::uint64_t kHttpLineBytesMax = 16 * limits::kMiB;

struct HttpAnswer {
  unsigned status = 0;
  std::string body;
};

/// THREADS: of `io`. One call at a time, but for close().
class HttpConnection {
 public:
  /// `unavailable`: nobody answers there in time · `unsupported`: not a loopback address.
  [[nodiscard]] static Task<Result<std::unique_ptr<HttpConnection>>> connect(IoThread& io,
                                                                             Endpoint where,
                                                                             TimePoint deadline);
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;
  ~HttpConnection();

  /// Nothing is known against another exchange: the server has not closed it.
  [[nodiscard]] bool is_usable() const noexcept;
  /// `timed_out` · `disconnected` · `no_space`: the answer is too large · `bad_frame`: it is no
  /// HTTP. After each of these the server may have acted on the request.
  [[nodiscard]] Task<Result<HttpAnswer>> post(std::string target,
                                              std::string body,
                                              TimePoint deadline);
  /// Begins an exchange whose answer is read with next_line(). The errors of post(), and
  /// `unavailable` when the server refuses.
  [[nodiscard]] Task<Result<void>> begin(std::string target, std::string body, TimePoint deadline);
  /// The next line of the answer, without its end. Waits for ever without a deadline.
  [[nodiscard]] Task<Result<std::string>> next_line(std::optional<TimePoint> deadline);
  /// Pending calls answer `closing`. Idempotent.
  void close() noexcept;

 private:
  struct State;
  explicit HttpConnection(std::unique_ptr<State> state);
  [[nodiscard]] Task<Result<void>> send(std::string target, std::string body);
  std::unique_ptr<State> state_;
};

}  // namespace vmstore::net
