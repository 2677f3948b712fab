// SPDX-License-Identifier: Apache-2.0
// SnapshotDisk: a snapshot, read directly: many readers share a snapshot, no token (DESIGN 6).
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "disk/disk.h"
#include "disk/session.h"
#include "disk/view_reader.h"

namespace vmstore::disk {

/// THREADS: try_read from any; the rest on the scheduler's.
class SnapshotDisk {
 public:
  explicit SnapshotDisk(Session& session)
      : session_(session), reader_(mapping_, session.blocks(), nullptr) {}

  /// Replays what of the view is not in pages yet; waits for the node.
  [[nodiscard]] Task<Result<void>> open(ClosedView view);
  /// open() of a snapshot's view. When the disk's owner writes that view out, the pages named here
  /// may be collected: a read that finds one gone looks at the snapshot again (`not_found`: it was
  /// removed).
  [[nodiscard]] Task<Result<void>> open_snapshot(DiskId disk, std::string name);
  /// Makes the pages that hold all of the view.
  [[nodiscard]] Task<Result<snapshot::Checkpoint>> build_pages(ClosedView view,
                                                               snapshot::PageSink& sink);
  [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }
  /// Since 1970; of open_snapshot().
  [[nodiscard]] std::uint64_t taken_ns() const noexcept { return taken_ns_; }
  /// The snapshot was removed; one of the same name may be there by now.
  [[nodiscard]] Task<Result<bool>> is_outdated();
  [[nodiscard]] bool try_read(std::uint64_t offset, MutableBytes into) {
    return reader_.try_read(offset, into);
  }
  [[nodiscard]] Task<Result<void>> read(std::uint64_t offset, MutableBytes into);
  [[nodiscard]] Task<Result<std::vector<DiskExtent>>> extents(std::uint64_t offset,
                                                              std::uint64_t bytes,
                                                              std::size_t count_max);

 private:
  [[nodiscard]] Task<Result<void>> replay(ClosedView view);
  /// After `error`: success when the operation should be tried again.
  [[nodiscard]] Task<Result<void>> look_again(Error error);
  Session& session_;
  Mapping mapping_;
  ViewReader reader_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t taken_ns_ = 0;
  DiskId disk_;
  std::string name_;  // of the snapshot; empty for a view of its own
  std::optional<SnapshotId> opened_;
  std::uint64_t revision_ = 0;  // of the snapshot's record that was opened
};

/// Extents of blocks as byte ranges, clipped to [offset, offset+bytes).
[[nodiscard]] std::vector<DiskExtent> clip_extents(const std::vector<snapshot::Extent>& mapped,
                                                   std::uint64_t offset,
                                                   std::uint64_t bytes);

}  // namespace vmstore::disk
