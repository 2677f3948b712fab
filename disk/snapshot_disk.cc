// SPDX-License-Identifier: Apache-2.0
#include "disk/snapshot_disk.h"

#include <algorithm>
#include <utility>

#include "disk/replay.h"
#include "meta/records.h"

namespace vmstore::disk {

Task<Result<void>> SnapshotDisk::open(ClosedView view) {
  for (;;) {
    const auto outcome = co_await replay(view);
    if (outcome || !net::is_connection_trouble(outcome.error())) co_return outcome;
    const auto connected = co_await session_.node().wait_connected();
    if (!connected) co_return connected.error();
  }
}

Task<Result<void>> SnapshotDisk::open_snapshot(DiskId disk, std::string name) {
  disk_ = disk;
  name_ = std::move(name);
  VMS_CO_TRY(const auto found, co_await session_.catalogue().snapshot(disk_, name_));
  opened_ = meta::from_pb<SnapshotId>(found.record.id());
  revision_ = found.revision;
  taken_ns_ = found.record.created_ns();
  co_return co_await open(view_from(found.record.view()));
}

Task<Result<bool>> SnapshotDisk::is_outdated() {
  if (!opened_) co_return false;
  const auto found = co_await session_.catalogue().snapshot(disk_, name_);
  if (!found && found.error() != Errc::not_found) co_return found.error();
  co_return !found || meta::from_pb<SnapshotId>(found->record.id()) != *opened_;
}

Task<Result<void>> SnapshotDisk::look_again(Error error) {
  if (net::is_connection_trouble(error)) {
    const auto connected = co_await session_.node().wait_connected();
    if (!connected) co_return connected.error();
    co_return success();
  }
  const bool gone = error == Errc::corrupt || error == Errc::punched || error == Errc::not_found;
  if (!gone || !opened_) co_return error;
  VMS_CO_TRY(const auto found, co_await session_.catalogue().snapshot(disk_, name_));
  if (meta::from_pb<SnapshotId>(found.record.id()) != *opened_) co_return Errc::not_found;
  if (found.revision == revision_) co_return error;
  revision_ = found.revision;
  co_return co_await open(view_from(found.record.view()));
}

Task<Result<void>> SnapshotDisk::replay(ClosedView view) {
  snapshot::RunMap overlay;
  const auto apply = [&overlay](const ReplayedRecord& record) -> Result<void> {
    apply_runs(record.header, overlay);
    return success();
  };
  for (const LogPart& part : view.parts) {
    VMS_CO_CHECK(co_await visit_log(session_.copies(), part.from, part.to, Epoch(), apply));
  }
  size_bytes_ = view.size_bytes;
  const Mapping::Lock lock(mapping_.mutex());
  mapping_.reset(view.top);
  mapping_.overlay() = std::move(overlay);
  co_return success();
}

Task<Result<snapshot::Checkpoint>> SnapshotDisk::build_pages(ClosedView view,
                                                             snapshot::PageSink& sink) {
  const std::uint64_t size_blocks = (view.size_bytes + kBlockBytes - 1) / kBlockBytes;
  co_return co_await snapshot::build_checkpoint(
      reader_.pages(), sink, view.top, mapping_.overlay(), size_blocks, false);
}

Task<Result<void>> SnapshotDisk::read(std::uint64_t offset, MutableBytes into) {
  for (;;) {
    const auto outcome = co_await reader_.read(offset, into);
    if (outcome) co_return success();
    VMS_CO_CHECK(co_await look_again(outcome.error()));
  }
}

Task<Result<std::vector<DiskExtent>>> SnapshotDisk::extents(std::uint64_t offset,
                                                            std::uint64_t bytes,
                                                            std::size_t count_max) {
  const Lbn first(offset / kBlockBytes);
  const std::uint64_t blocks = (offset + bytes + kBlockBytes - 1) / kBlockBytes - first.value;
  for (;;) {
    const auto mapped = co_await reader_.map(first, blocks, count_max);
    if (mapped) co_return clip_extents(*mapped, offset, bytes);
    VMS_CO_CHECK(co_await look_again(mapped.error()));
  }
}

std::vector<DiskExtent> clip_extents(const std::vector<snapshot::Extent>& mapped,
                                     std::uint64_t offset,
                                     std::uint64_t bytes) {
  std::vector<DiskExtent> clipped;
  const std::uint64_t end = offset + bytes;
  for (const snapshot::Extent& extent : mapped) {
    const std::uint64_t from = std::max(offset, extent.lbn.value * kBlockBytes);
    const std::uint64_t to = std::min(end, (extent.lbn.value + extent.blocks) * kBlockBytes);
    clipped.push_back({from, to - from, extent.where == snapshot::Where::zero});
  }
  return clipped;
}

}  // namespace vmstore::disk
