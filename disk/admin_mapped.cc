// SPDX-License-Identifier: Apache-2.0
// Admin::mapped_bytes: how much of a disk has content, for people. Nothing keeps that number, so
// the index is walked, and only for so long.
#include <algorithm>
#include <utility>

#include "disk/admin.h"
#include "disk/snapshot_disk.h"
#include "meta/records.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

constexpr Duration kWalkTime = std::chrono::seconds(2);
constexpr std::size_t kExtentsPerStep = 4096;

/// What a disk that was given back in order contains.
ClosedView view_at_rest(const meta::pb::DiskRecord& record) {
  ClosedView view = view_from(record.base());
  view.size_bytes = record.size_bytes();
  const LogPosition from = meta::from_pb(record.log_from());
  if (from.key.is_none()) return view;
  LogPosition end;
  if (record.open_key().key() != 0) {
    end = meta::from_pb(record.log_end());
  } else {
    const KeyLength length = meta::from_pb(record.last_sealed_length());
    end.key = *KeyId::make(record.last_sealed().key());
    end.log_offset = length.log_bytes;
    end.sequence = length.last_sequence.next();
  }
  const bool has_own = from.sequence < end.sequence;
  if (has_own) view.parts.push_back({disk_id_of(record), from, end});
  return view;
}

}  // namespace

Task<Result<std::vector<DiskExtent>>> Admin::extents_of_holder(DiskId id,
                                                               std::uint64_t offset,
                                                               std::uint64_t bytes) {
  pb::DiskCallRequest request;
  wire::put_id(*request.mutable_disk(), id);
  request.mutable_extents()->set_offset(offset);
  request.mutable_extents()->set_bytes(bytes);
  request.mutable_extents()->set_max(kExtentsPerStep);
  VMS_CO_TRY(const auto answer, co_await session_.node().call_holder(request));
  std::vector<DiskExtent> found;
  for (const pb::Extent& extent : answer.reply->extents()) {
    found.push_back({offset, extent.bytes(), extent.zero()});
    offset += extent.bytes();
  }
  co_return found;
}

Task<Result<std::optional<std::uint64_t>>> Admin::mapped_bytes(std::string name) {
  const std::optional<std::uint64_t> not_known;
  const TimePoint deadline = session_.scheduler().now() + kWalkTime;
  VMS_CO_TRY(const auto disk, co_await catalogue_.disk_by_name(std::move(name)));
  const DiskId id = disk_id_of(disk.record);
  VMS_CO_TRY(const auto holder, co_await session_.node().holder(id));
  SnapshotDisk at_rest(session_);
  if (!holder.held) {
    // Only a recovery, by its next session, knows what a dead one left.
    if (disk.record.state() != meta::pb::DiskRecord::released) co_return not_known;
    VMS_CO_CHECK(co_await at_rest.open(view_at_rest(disk.record)));
  }
  const std::uint64_t size = disk.record.size_bytes();
  std::uint64_t mapped = 0;
  for (std::uint64_t offset = 0; offset < size;) {
    if (session_.scheduler().now() >= deadline) co_return not_known;
    Result<std::vector<DiskExtent>> found(Errc::unknown);
    if (holder.held) {
      found = co_await extents_of_holder(id, offset, size - offset);
    } else {
      found = co_await at_rest.extents(offset, size - offset, kExtentsPerStep);
    }
    if (!found || found->empty()) co_return not_known;  // it changed hands meanwhile
    for (const DiskExtent& extent : *found) {
      if (!extent.zero) mapped += extent.bytes;
      offset += extent.bytes;
    }
  }
  co_return std::optional(mapped);
}

}  // namespace vmstore::disk
