// SPDX-License-Identifier: Apache-2.0
// Listing: which disks, groups and snapshots exist, asked of the node.
//
// Invariants: an error is never an empty folder or a missing file (I9); a file that was just made
// is found at once (only what is listed may be a second old).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/time.h"
#include "disk/disk.h"
#include "fuse/names.h"

namespace vmstore::fuse {

/// What tells a file from a later one of the same name.
struct Identity {
  DiskId disk;
  std::uint64_t snapshot_ns = 0;  // when it was taken
  friend auto operator<=>(const Identity&, const Identity&) = default;
};

/// A file or folder that exists.
struct FileInfo {
  Place place;
  Identity identity;  // of a file
  std::uint64_t size_bytes = 0;
  std::uint64_t mapped_bytes = 0;  // 0: not known
  std::uint64_t created_ns = 0;
  std::uint64_t epoch = 0;  // of a disk: rises with every new owner
  bool is_held = false;     // of a disk: some session may write to it now
};

/// THREADS: any. Does not own the client.
class Listing {
 public:
  explicit Listing(disk::Client& client) noexcept : client_(client) {}

  /// `not_found`: there is certainly no such file or folder.
  [[nodiscard]] Result<FileInfo> find_in(const Place& folder, std::string_view entry);
  /// The same for a place that was found before.
  [[nodiscard]] Result<FileInfo> find(const Place& place);
  /// Everything in a folder: files, then folders.
  [[nodiscard]] Result<std::vector<FileInfo>> list(const Place& folder);

 private:
  using Disks = std::shared_ptr<const std::vector<disk::DiskSummary>>;
  /// Not older than a second, or fresh.
  [[nodiscard]] Result<Disks> disks(bool fresh);
  [[nodiscard]] Result<FileInfo> find_disk(const Place& place);
  [[nodiscard]] Result<FileInfo> find_snapshot(const Place& place);
  [[nodiscard]] Result<FileInfo> find_group(const Place& place);
  [[nodiscard]] Result<void> add_snapshots(const disk::DiskSummary& disk,
                                           std::vector<FileInfo>& found);

  disk::Client& client_;
  std::mutex mutex_;
  Disks disks_;
  TimePoint disks_at_{};
};

}  // namespace vmstore::fuse
