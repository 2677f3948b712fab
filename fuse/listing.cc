// SPDX-License-Identifier: Apache-2.0
#include "fuse/listing.h"

#include <algorithm>
#include <set>
#include <string>
#include <utility>

#include "base/units.h"

namespace vmstore::fuse {
namespace {

constexpr Duration kListAgeMax = std::chrono::seconds(1);

FileInfo folder_info(Place place) {
  FileInfo info;
  info.place = std::move(place);
  return info;
}

FileInfo disk_info(const disk::DiskSummary& disk) {
  FileInfo info;
  info.place = Place{Kind::disk, disk.name};
  info.identity.disk = disk.id;
  info.size_bytes = disk.size_bytes;
  info.created_ns = disk.created_ns;
  info.epoch = disk.epoch;
  info.is_held = disk.held;
  return info;
}

FileInfo snapshot_info(const disk::DiskSummary& disk, const disk::SnapshotSummary& snapshot) {
  FileInfo info;
  info.place = Place{Kind::snapshot, disk.name + "@" + snapshot.name};
  info.identity = Identity{disk.id, snapshot.created_ns};
  info.size_bytes = snapshot.size_bytes;
  info.created_ns = snapshot.created_ns;
  return info;
}

}  // namespace

Result<Listing::Disks> Listing::disks(bool fresh) {
  const TimePoint now = std::chrono::steady_clock::now();
  {
    const std::scoped_lock lock(mutex_);
    if (!fresh && disks_ != nullptr && now - disks_at_ < kListAgeMax) return disks_;
  }
  VMS_TRY(auto listed, client_.list());
  const Disks made = std::make_shared<const std::vector<disk::DiskSummary>>(std::move(listed));
  const std::scoped_lock lock(mutex_);
  disks_ = made;
  disks_at_ = now;  // when it was asked for: it may be that old
  return made;
}

Result<FileInfo> Listing::find_in(const Place& folder, std::string_view entry) {
  if (const auto file = file_in(folder, entry)) {
    auto found = find(*file);
    if (found || found.error() != Errc::not_found) return found;
  }
  const auto inner = folder_in(folder, entry);
  if (!inner) return Errc::not_found;
  return find(*inner);
}

Result<FileInfo> Listing::find(const Place& place) {
  switch (place.kind) {
    case Kind::disk:
      return find_disk(place);
    case Kind::snapshot:
      return find_snapshot(place);
    case Kind::group:
    case Kind::snap_group:
      return find_group(place);
    case Kind::root:
    case Kind::snap_root:
      break;
  }
  return folder_info(place);
}

Result<FileInfo> Listing::find_disk(const Place& place) {
  VMS_TRY(const auto disk, client_.details(place.name));
  return disk_info(disk);
}

Result<FileInfo> Listing::find_snapshot(const Place& place) {
  VMS_TRY(const DiskReference reference, parse_disk_reference(place.name));
  VMS_TRY(const auto disk, client_.details(reference.disk));
  VMS_TRY(const auto snapshots, client_.snapshots(reference.disk));
  for (const disk::SnapshotSummary& snapshot : snapshots) {
    if (snapshot.name == reference.snapshot) return snapshot_info(disk, snapshot);
  }
  return Errc::not_found;
}

Result<FileInfo> Listing::find_group(const Place& place) {
  const auto is_member = [&](const disk::DiskSummary& disk) {
    return group_of(disk.name) == place.name;
  };
  // A list that knows the group is good enough; one that does not may be too old.
  for (const bool fresh : {false, true}) {
    VMS_TRY(const Disks all, disks(fresh));
    if (std::any_of(all->begin(), all->end(), is_member)) return folder_info(place);
  }
  return Errc::not_found;
}

Result<std::vector<FileInfo>> Listing::list(const Place& folder) {
  if (!is_folder(folder.kind)) return Errc::invalid_argument;
  VMS_TRY(const Disks all, disks(false));
  const bool of_snapshots = folder.kind == Kind::snap_root || folder.kind == Kind::snap_group;
  std::vector<FileInfo> found;
  std::set<std::string, std::less<>> groups;
  for (const disk::DiskSummary& disk : *all) {
    const std::string_view group = group_of(disk.name);
    if (folder.name.empty() && !group.empty()) {
      groups.emplace(group);
    } else if (group == folder.name && of_snapshots) {
      VMS_CHECK(add_snapshots(disk, found));
    } else if (group == folder.name) {
      found.push_back(disk_info(disk));
    }
  }
  std::set<std::string, std::less<>> names;
  for (const FileInfo& file : found) names.insert(entry_name(file.place));
  for (const std::string& group : groups) {
    if (names.contains(group)) continue;  // a file of that name goes first
    found.push_back(folder_info({of_snapshots ? Kind::snap_group : Kind::group, group}));
  }
  if (folder.kind == Kind::root) found.push_back(folder_info({Kind::snap_root, {}}));
  return found;
}

Result<void> Listing::add_snapshots(const disk::DiskSummary& disk, std::vector<FileInfo>& found) {
  const auto snapshots = client_.snapshots(disk.name);
  // Removed since it was listed: it has none.
  if (!snapshots && snapshots.error() == Errc::not_found) return success();
  if (!snapshots) return snapshots.error();
  for (const disk::SnapshotSummary& snapshot : *snapshots) {
    found.push_back(snapshot_info(disk, snapshot));
  }
  return success();
}

}  // namespace vmstore::fuse
