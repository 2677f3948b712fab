// SPDX-License-Identifier: Apache-2.0
#include "disk/snapshot_disk.h"

#include <algorithm>
#include <utility>

#include "disk/replay.h"

namespace vmstore::disk {
namespace {

bool connection_lost(const Error& error) noexcept {
  return error == Errc::disconnected || error == Errc::timed_out;
}

}  // namespace

Task<Result<void>> SnapshotDisk::open(ClosedView view) {
  snapshot::RunMap overlay;
  const auto apply = [&overlay](const ReplayedRecord& record) -> Result<void> {
    apply_runs(record.header, overlay);
    return success();
  };
  for (const LogPart& part : view.parts) {
    VMS_CO_CHECK(co_await visit_log(session_.node(), part.from, part.to, Epoch(), apply));
  }
  size_bytes_ = view.size_bytes;
  const Mapping::Lock lock(mapping_.mutex());
  mapping_.reset(view.top);
  mapping_.overlay() = std::move(overlay);
  co_return success();
}

Task<Result<snapshot::Checkpoint>> SnapshotDisk::build_pages(ClosedView view) {
  const std::uint64_t size_blocks = (view.size_bytes + kBlockBytes - 1) / kBlockBytes;
  co_return co_await snapshot::build_checkpoint(
      reader_.pages(), view.top, mapping_.overlay(), size_blocks, false);
}

Task<Result<void>> SnapshotDisk::read(std::uint64_t offset, MutableBytes into) {
  for (;;) {
    const auto outcome = co_await reader_.read(offset, into);
    if (outcome || !connection_lost(outcome.error())) co_return outcome;
    const auto connected = co_await session_.node().wait_connected();
    if (!connected) co_return connected.error();
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
    if (!connection_lost(mapped.error())) co_return mapped.error();
    const auto connected = co_await session_.node().wait_connected();
    if (!connected) co_return connected.error();
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
