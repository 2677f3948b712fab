// SPDX-License-Identifier: Apache-2.0
#include "fuse/names.h"

#include "base/units.h"

namespace vmstore::fuse {
namespace {

constexpr std::string_view kSuffix = ".raw";
constexpr std::string_view kSnapshots = ".snap";

}  // namespace

bool is_folder(Kind kind) noexcept {
  return kind != Kind::disk && kind != Kind::snapshot;
}

std::optional<Place> file_in(const Place& folder, std::string_view entry) {
  if (!is_folder(folder.kind) || !entry.ends_with(kSuffix)) return {};
  entry.remove_suffix(kSuffix.size());
  if (entry.find('/') != std::string_view::npos) return {};
  const bool of_snapshots = folder.kind == Kind::snap_root || folder.kind == Kind::snap_group;
  std::string name = folder.name.empty() ? std::string() : folder.name + "/";
  name += entry;
  const auto reference = parse_disk_reference(name);
  if (!reference || reference->snapshot.empty() == of_snapshots) return {};
  return Place{of_snapshots ? Kind::snapshot : Kind::disk, std::move(name)};
}

std::optional<Place> folder_in(const Place& folder, std::string_view entry) {
  if (folder.kind == Kind::root && entry == kSnapshots) return Place{Kind::snap_root, {}};
  if (!is_valid_name_part(entry)) return {};
  if (folder.kind == Kind::root) return Place{Kind::group, std::string(entry)};
  if (folder.kind == Kind::snap_root) return Place{Kind::snap_group, std::string(entry)};
  return {};
}

std::string entry_name(const Place& place) {
  switch (place.kind) {
    case Kind::root:
      return "/";
    case Kind::snap_root:
      return std::string(kSnapshots);
    case Kind::group:
    case Kind::snap_group:
      return place.name;
    case Kind::disk:
    case Kind::snapshot:
      break;
  }
  std::string entry = place.name.substr(place.name.find('/') + 1);
  return entry.append(kSuffix);
}

std::string_view group_of(std::string_view name) noexcept {
  const auto slash = name.find('/');
  return slash == std::string_view::npos ? std::string_view() : name.substr(0, slash);
}

}  // namespace vmstore::fuse
