// SPDX-License-Identifier: Apache-2.0
// Admin::verify: reads every mapped block of a disk and its snapshots and checks its sum.
// Admin::repair: lets the node end a damaged log, so that the disk opens again.
#include <algorithm>
#include <utility>

#include "base/fault.h"
#include "disk/admin.h"
#include "disk/snapshot_disk.h"
#include "meta/records.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

constexpr std::uint64_t kVerifyBytes = 1 * limits::kMiB;
constexpr std::size_t kBadOffsetsMax = 100;
constexpr Duration kAskAgain = std::chrono::milliseconds(100);

void note_bad(VerifyReport& report, std::uint64_t offset) {
  ++report.bad_blocks;
  if (report.bad_offsets.size() < kBadOffsetsMax) report.bad_offsets.push_back(offset);
}

}  // namespace

Task<Result<void>> Admin::verify_snapshot(DiskId id,
                                          std::string name,
                                          const VerifyControl& control,
                                          VerifyReport& report) {
  SnapshotDisk disk(session_);
  VMS_CO_CHECK(co_await disk.open_snapshot(id, std::move(name)));
  std::vector<std::byte> buffer(kVerifyBytes);
  std::uint64_t offset = 0;
  while (offset < disk.size_bytes()) {
    VMS_CO_TRY(const auto extents,
               co_await disk.extents(offset, disk.size_bytes() - offset, limits::kRecordRunsMax));
    for (const DiskExtent& extent : extents) {
      for (std::uint64_t at = 0; !extent.zero && at < extent.bytes; at += kVerifyBytes) {
        if (control.stop && control.stop()) co_return Errc::interrupted;
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

Task<Result<VerifyReport>> Admin::verify(std::string name, VerifyControl control) {
  VerifyReport report;
  VMS_CO_TRY(const auto disk, co_await catalogue_.disk_by_name(name));
  const DiskId id = disk_id_of(disk.record);
  // A cut of now: what is checked does not move under the check, and a running disk can be checked.
  std::string snap = control.snapshot;
  if (snap.empty()) snap = "verify-" + session_.random().id128<SnapshotId>().hex();
  VMS_CO_CHECK(co_await snapshot_of(disk, snap, false));
  VMS_CO_TRY(const auto snapshots, co_await catalogue_.snapshots(id));
  Result<void> outcome = success();
  for (const VersionedSnapshot& snapshot : snapshots) {
    outcome = co_await verify_snapshot(id, snapshot.record.name(), control, report);
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

Task<Result<RepairReport>> Admin::repair_key(VersionedDisk disk, bool accept_loss) {
  const meta::pb::DiskRecord& record = disk.record;
  const DiskId id = disk_id_of(record);
  auto request = std::make_unique<pb::KeyRepairRequest>();
  request->set_key(record.open_key().key());
  wire::put_id(*request->mutable_disk(), id);
  request->set_token(record.epoch());
  const LogPosition from = meta::from_pb(record.log_from());
  // What lies before is in pages: damage there is nothing that anybody needs.
  if (from.key.value() == record.open_key().key()) {
    request->set_log_offset(from.log_offset);
    request->set_sequence(from.sequence.value);
  }
  request->set_accept_loss(accept_loss);
  VMS_CO_TRY(const auto reply, co_await session_.node().repair_key(std::move(request)));
  VMS_CO_TRY(const KeyLength known, wire::get_length(reply->known()));
  VMS_CO_TRY(const KeyLength kept, wire::get_length(reply->kept()));
  RepairReport report;
  report.needed = reply->needed();
  report.done = report.needed && accept_loss;
  report.kept_sequence = kept.last_sequence.value;
  if (reply->kept_time_ns() != 0) report.kept_time_ns = reply->kept_time_ns();
  report.lost_records =
      known.last_sequence.value - std::min(known.last_sequence, kept.last_sequence).value;
  report.lost_log_bytes = known.log_bytes - std::min(known.log_bytes, kept.log_bytes);
  report.cut_path = reply->cut_path();
  VMS_CO_TRY(const auto snapshots, co_await catalogue_.snapshots(id));
  for (const VersionedSnapshot& snapshot : snapshots) {
    const ClosedView view = view_from(snapshot.record.view());
    const bool is_lost = std::any_of(view.parts.begin(), view.parts.end(), [&](const auto& part) {
      return part.to.key.value() == record.open_key().key() && part.to.log_offset > kept.log_bytes;
    });
    if (report.needed && is_lost) report.lost_snapshots.push_back(snapshot.record.name());
  }
  co_return report;
}

Task<Result<RepairReport>> Admin::repair(std::string name, bool accept_loss) {
  VMS_CO_TRY(auto disk, co_await catalogue_.disk_by_name(std::move(name)));
  const DiskId id = disk_id_of(disk.record);
  // A node that has just started waits for who held the disk before.
  const TimePoint deadline =
      session_.scheduler().now() + Duration(limits::kLeaseTime) + std::chrono::seconds(1);
  for (;;) {
    VMS_CO_TRY(const auto holder, co_await session_.node().holder(id));
    if (!holder.held) break;
    const bool may_be_gone = holder.session.value == 0 && session_.scheduler().now() < deadline;
    if (!may_be_gone) co_return Errc::busy;
    co_await sleep_for(session_.scheduler(), kAskAgain);
  }
  if (disk.record.open_key().key() == 0) co_return RepairReport();  // nothing is open
  VMS_CO_TRY(const auto found, co_await repair_key(disk, false));
  if (!found.needed || !accept_loss) co_return found;
  // A new epoch: who held the disk before is refused, and who comes now recovers it.
  meta::pb::DiskRecord wanted = disk.record;
  wanted.set_epoch(wanted.epoch() + 1);
  wanted.set_state(meta::pb::DiskRecord::recovering);
  if (found.lost_records > 0) {
    // What a batch file holds came after what is lost: put behind the cut it would make a state
    // that never was. From here on none is the recorded writer's. Before the cut: doing all of this
    // again after a death would find nothing to repair.
    wanted.mutable_writer()->set_epoch(wanted.epoch());
    wanted.mutable_writer()->set_has_batch_file(false);
  }
  const auto taken = co_await catalogue_.update(disk, std::move(wanted));
  if (!taken) co_return taken.error() == Errc::conflict ? Error(Errc::busy) : taken.error();
  VMS_FAULT("disk.repair_begun");
  std::uint64_t batches = 0;
  if (found.lost_records > 0) {
    VMS_CO_TRY(const auto aside, set_batch_file_aside(id));
    batches = aside.value_or(0);
  }
  VMS_CO_TRY(auto report, co_await repair_key(disk, true));
  VMS_FAULT("disk.repair_done");
  report.lost_batches = batches;
  co_return report;
}

}  // namespace vmstore::disk
