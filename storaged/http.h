// SPDX-License-Identifier: Apache-2.0
// HttpServer: /healthz, /readyz and /metrics for probes and Prometheus, on a thread of its own.
//
// Invariants: every request is bounded (8 KiB of header, no body, 5 s, 32 connections at once); it
// listens on a unix socket or on loopback, never elsewhere, since there is no TLS yet; a node that
// does not answer in time makes a 503, never a request that hangs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/result.h"

namespace vmstore::storaged {

/// What the pages show. Called on the server's thread; each may wait for a bounded time.
struct HttpPages {
  std::function<std::optional<std::string>()> metrics;  // empty: the node does not answer
  std::function<bool()> healthy;                        // the node answers
  std::function<bool()> ready;                          // it serves
};

/// THREADS: made and destroyed by one thread. OWNS: its thread, which the destructor ends.
class HttpServer {
 public:
  /// `where` is "unix:PATH", "127.0.0.1:PORT" or "[::1]:PORT"; port 0 takes any free one.
  /// `invalid_argument` for another address.
  [[nodiscard]] static Result<std::unique_ptr<HttpServer>> start(const std::string& where,
                                                                 HttpPages pages);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  /// Where it listens, with the port that was taken.
  [[nodiscard]] const std::string& where() const noexcept;

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

}  // namespace vmstore::storaged
