// SPDX-License-Identifier: Apache-2.0
// ServedDisk: the one disk of an nbdkit process, shared by all its connections.
//
// Invariants: opened by the first connection and kept when that closes, so that every connection
// sees the same open batch (multi-conn, N3) and a client that comes back finds what it wrote; a
// client of another process finds what is in the store, whoever wrote it: for it the disk is opened
// again, and its batch file names that process, so that older bytes are never taken for its own;
// during a planned stop no request is answered any more, so that a client that reconnects sends
// them again to the next process (DESIGN 4.2).
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "base/result.h"
#include "disk/disk.h"

namespace vmstore::nbd_plugin {

/// THREADS: any. OWNS: the session and the disk.
class ServedDisk {
 public:
  explicit ServedDisk(std::unique_ptr<disk::Client> client) noexcept : client_(std::move(client)) {}
  ServedDisk(const ServedDisk&) = delete;
  ServedDisk& operator=(const ServedDisk&) = delete;

  /// While one exists, stop() waits. The constructor does not return once stop() has begun: the
  /// process is about to be killed, and an answer now would be a lie to come.
  class Request {
   public:
    explicit Request(ServedDisk& served) noexcept;
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    ~Request();

   private:
    ServedDisk& served_;
  };

  /// A connection opens. The first one opens the disk. A disk that answers only errors is waited
  /// for up to 2 s, until the clients that were connected before are gone. When no connection is
  /// left, the disk is opened again for a client of another process, or if it was resized, and
  /// another disk may take its place; while there is one that is `exists`. `stale_token`: the
  /// snapshot is another one by now, and nobody can tell whether the client knows.
  [[nodiscard]] Result<void> connect(const disk::DiskOpenOptions& options);
  /// A connection that connect() let in has closed.
  void disconnect() noexcept;

  /// REQUIRES: inside a connection.
  [[nodiscard]] disk::BlockingDisk& disk() noexcept { return *disk_; }
  [[nodiscard]] disk::Client& client() noexcept { return *client_; }
  /// What is served, or empty.
  [[nodiscard]] std::string reference() const;

  /// Answers nothing any more, waits for the requests under way, closes the disk. The result is
  /// that of closing. THREADS: not inside a Request.
  [[nodiscard]] Result<void> stop();

 private:
  void leave() noexcept;
  /// Whether the disk as it was opened is right for a client, and no other is connected.
  [[nodiscard]] bool is_of_no_use(const disk::DiskOpenOptions& options);
  [[nodiscard]] Result<bool> may_keep(const disk::DiskOpenOptions& options);
  void close_disk();
  /// The disk was resized since it was opened. No answer: keep what there is.
  [[nodiscard]] bool has_other_size();

  const std::unique_ptr<disk::Client> client_;
  mutable std::mutex mutex_;  // of connect and disconnect
  std::unique_ptr<disk::BlockingDisk> disk_;
  std::string reference_;
  int connections_ = 0;
  std::condition_variable left_;  // connections_ fell
  std::atomic<int> requests_{0};
  std::atomic<bool> stopping_{false};
};

}  // namespace vmstore::nbd_plugin
