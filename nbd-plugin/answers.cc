// SPDX-License-Identifier: Apache-2.0
#include "nbd-plugin/answers.h"

#include <algorithm>
#include <cerrno>

namespace vmstore::nbd_plugin {

int nbd_errno(Errc code) noexcept {
  switch (const int number = errc_to_errno(code)) {
    case EPERM:
    case EACCES:
    case EROFS:
      return EPERM;
    case ENOMEM:
    case ENOSPC:
    case EINVAL:
      return number;
    default:
      return EIO;
  }
}

Result<std::vector<disk::DiskExtent>> clip_extents(const std::vector<disk::DiskExtent>& found,
                                                   std::uint64_t offset,
                                                   std::uint64_t bytes) {
  std::vector<disk::DiskExtent> clipped;
  const std::uint64_t end = offset + bytes;
  std::uint64_t at = offset;
  for (const disk::DiskExtent& extent : found) {
    const std::uint64_t extent_end = std::min(end, extent.offset + extent.bytes);
    if (extent_end <= at) continue;
    if (extent.offset > at || at >= end) break;
    clipped.push_back({at, extent_end - at, extent.zero});
    at = extent_end;
  }
  if (clipped.empty()) return Errc::unknown;
  return clipped;
}

}  // namespace vmstore::nbd_plugin
