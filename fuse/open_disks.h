// SPDX-License-Identifier: Apache-2.0
// OpenDisks: the disks and snapshots that have open files, each opened once however many files.
//
// Invariants: the last file that closes gives the disk back, so that another may write to it; a
// file never sees another disk than the one it was opened on, whatever is renamed or made anew.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <utility>

#include "base/result.h"
#include "disk/disk.h"
#include "fuse/listing.h"

namespace vmstore::fuse {

/// One of them. THREADS: any. Does not own the client.
class OpenDisk {
 public:
  OpenDisk(disk::Client& client, std::string reference, Identity identity)
      : client_(client), reference_(std::move(reference)), identity_(identity) {}

  /// Runs `body(BlockingDisk&)`, opening the disk if it is not. Many run at once.
  template <class F>
  [[nodiscard]] auto use(F body) -> decltype(body(std::declval<disk::BlockingDisk&>())) {
    while (true) {
      {
        const std::shared_lock lock(mutex_);
        if (disk_ != nullptr) return body(*disk_);
      }
      VMS_CHECK(open());
    }
  }
  /// `conflict`: the name means another disk by now.
  [[nodiscard]] Result<void> open();
  /// The size, waiting for the requests under way: the disk is closed and opened again, because an
  /// open one keeps its size. `permission`: smaller than it is, and !may_shrink.
  [[nodiscard]] Result<void> resize(std::uint64_t bytes, bool may_shrink);
  /// Commits and gives the disk back, after the requests under way.
  [[nodiscard]] Result<void> close();

  [[nodiscard]] const std::string& reference() const noexcept { return reference_; }
  [[nodiscard]] const Identity& identity() const noexcept { return identity_; }

 private:
  friend class OpenDisks;
  [[nodiscard]] Result<void> open_locked();
  [[nodiscard]] Result<void> close_locked();

  disk::Client& client_;
  const std::string reference_;
  const Identity identity_;
  std::shared_mutex mutex_;  // shared: a request; exclusive: open, resize, close
  std::unique_ptr<disk::BlockingDisk> disk_;
  std::uint64_t files_ = 0;  // under the mutex of OpenDisks
};

/// THREADS: any. Lock order: a disk's mutex, then the table's.
class OpenDisks {
 public:
  explicit OpenDisks(disk::Client& client) noexcept : client_(client) {}
  OpenDisks(const OpenDisks&) = delete;
  OpenDisks& operator=(const OpenDisks&) = delete;

  /// One more file. Each success is matched by one release().
  [[nodiscard]] Result<std::shared_ptr<OpenDisk>> open(const std::string& reference,
                                                       const Identity& identity);
  /// One file less; the last one closes the disk.
  [[nodiscard]] Result<void> release(const std::shared_ptr<OpenDisk>& disk);
  /// An open one, or null.
  [[nodiscard]] std::shared_ptr<OpenDisk> find(const std::string& reference,
                                               const Identity& identity);
  /// Closes all, whatever files are left: the mount ends. Returns the first error.
  [[nodiscard]] Result<void> close_all();

 private:
  using Key = std::pair<std::string, Identity>;
  disk::Client& client_;
  std::mutex mutex_;
  std::map<Key, std::shared_ptr<OpenDisk>> disks_;
};

}  // namespace vmstore::fuse
