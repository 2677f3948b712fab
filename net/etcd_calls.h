// SPDX-License-Identifier: Apache-2.0
// EtcdCalls: single calls to whichever member of an etcd answers.
//
// Invariants: a request that could change something is sent once: another member is asked only when
// no connection could be made; every call ends by its deadline; an error says whether the request
// may have been acted on (`timed_out`, `disconnected`, `unknown`) or was not (`unavailable`,
// `no_space`, `invalid_argument`, `permission`).
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/task.h"
#include "net/connection.h"
#include "net/etcd_http.h"
#include "net/io_thread.h"

namespace vmstore::net {

struct EtcdOptions {
  std::vector<Endpoint> endpoints;  // of its members, at least one
  Duration connect_time = std::chrono::seconds(1);
  Duration read_time = std::chrono::seconds(2);  // of one member, before the next is asked
  Duration call_time = std::chrono::seconds(5);  // in all
};

/// "http://HOST:PORT[,http://HOST:PORT...]". `unsupported` for https (there is no TLS yet),
/// `invalid_argument` for what is no such list or has more than 16 members.
[[nodiscard]] Result<std::vector<Endpoint>> parse_etcd_urls(std::string_view text);

/// THREADS: of `io`. Outlives the calls under way.
class EtcdCalls {
 public:
  EtcdCalls(IoThread& io, EtcdOptions options);

  enum class Kind { read, change };
  /// The body of a good answer.
  [[nodiscard]] Task<Result<std::string>> post(std::string target, std::string body, Kind kind);
  /// A connection on which the answer to `body` has begun; it is the caller's.
  [[nodiscard]] Task<Result<std::unique_ptr<HttpConnection>>> begin(std::string target,
                                                                    std::string body);
  /// The member in use does not do what it should: another one is tried first from now on.
  void prefer_another() noexcept;
  /// No new connections are made and none is kept.
  void close() noexcept;

 private:
  struct Member {
    std::size_t number = 0;
    std::unique_ptr<HttpConnection> connection;
  };
  [[nodiscard]] Task<Result<Member>> connect(bool fresh, TimePoint deadline);
  [[nodiscard]] Task<Result<std::string>> post_once(std::string target,
                                                    std::string body,
                                                    Kind kind,
                                                    TimePoint deadline);
  void keep(Member member);
  void avoid(std::size_t member) noexcept;
  void note(bool answered, const Error& error);

  IoThread& io_;
  EtcdOptions options_;
  std::size_t preferred_ = 0;
  bool closed_ = false;
  bool answers_ = true;  // as the log has it
  std::deque<Member> idle_;
};

}  // namespace vmstore::net
