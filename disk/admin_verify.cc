// SPDX-License-Identifier: Apache-2.0
// Admin::verify: reads every mapped block of a disk and its snapshots and checks its sum.
#include <algorithm>
#include <utility>

#include "disk/admin.h"
#include "disk/snapshot_disk.h"

namespace vmstore::disk {
namespace {

constexpr std::uint64_t kVerifyBytes = 1 * limits::kMiB;
constexpr std::size_t kBadOffsetsMax = 100;

void note_bad(VerifyReport& report, std::uint64_t offset) {
  ++report.bad_blocks;
  if (report.bad_offsets.size() < kBadOffsetsMax) report.bad_offsets.push_back(offset);
}

}  // namespace

Task<Result<void>> Admin::verify_snapshot(DiskId id, std::string name, VerifyReport& report) {
  SnapshotDisk disk(session_);
  VMS_CO_CHECK(co_await disk.open_snapshot(id, std::move(name)));
  std::vector<std::byte> buffer(kVerifyBytes);
  std::uint64_t offset = 0;
  while (offset < disk.size_bytes()) {
    VMS_CO_TRY(const auto extents,
               co_await disk.extents(offset, disk.size_bytes() - offset, limits::kRecordRunsMax));
    for (const DiskExtent& extent : extents) {
      for (std::uint64_t at = 0; !extent.zero && at < extent.bytes; at += kVerifyBytes) {
        const std::uint64_t count = std::min(kVerifyBytes, extent.bytes - at);
        report.blocks += (count + kBlockBytes - 1) / kBlockBytes;
        const auto all = co_await disk.read(extent.offset + at, MutableBytes(buffer).first(count));
        if (all) continue;
        if (all.error() == Errc::not_found) co_return Errc::not_found;  // removed meanwhile
        // Something in it is bad: find out which blocks.
        for (std::uint64_t block = 0; block < count; block += kBlockBytes) {
          const std::uint64_t bytes = std::min(kBlockBytes, count - block);
          const auto one =
              co_await disk.read(extent.offset + at + block, MutableBytes(buffer).first(bytes));
          if (!one) note_bad(report, extent.offset + at + block);
        }
      }
      offset = extent.offset + extent.bytes;
    }
    if (extents.empty()) co_return Errc::corrupt;
  }
  co_return success();
}

Task<Result<VerifyReport>> Admin::verify(std::string name) {
  VerifyReport report;
  VMS_CO_TRY(const auto disk, co_await catalogue_.disk_by_name(name));
  const DiskId id = disk_id_of(disk.record);
  // A cut of now: what is checked does not move under the check, and a running disk can be checked.
  const std::string snap = "verify-" + session_.random().id128<SnapshotId>().hex();
  VMS_CO_CHECK(co_await snapshot_of(disk, snap, false));
  VMS_CO_TRY(const auto snapshots, co_await catalogue_.snapshots(id));
  Result<void> outcome = success();
  for (const VersionedSnapshot& snapshot : snapshots) {
    outcome = co_await verify_snapshot(id, snapshot.record.name(), report);
    // One that was removed meanwhile has nothing to verify; our own cannot be.
    const bool removed = !outcome && outcome.error() == Errc::not_found;
    if (removed && snapshot.record.name() != snap) outcome = success();
    if (!outcome) break;
  }
  const auto removed = co_await remove_snapshot(name, snap);
  if (!outcome) co_return outcome.error();
  if (!removed) co_return removed.error();
  co_return report;
}

}  // namespace vmstore::disk
