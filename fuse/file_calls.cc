// SPDX-License-Identifier: Apache-2.0
#include "fuse/file_calls.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace vmstore::fuse {
namespace {

constexpr std::uint64_t kUnitBytes = 512;  // of st_blocks
constexpr std::uint64_t kUnitsPerBlock = 8;
constexpr std::size_t kExtentsPerStep = 1024;

}  // namespace

FileRange clip(const FileRange& range, std::uint64_t size_bytes) noexcept {
  if (range.offset >= size_bytes) return {size_bytes, 0};
  return {range.offset, std::min(range.bytes, size_bytes - range.offset)};
}

Result<void> allocate(disk::BlockingDisk& disk, int mode, const FileRange& range) {
  const bool punch = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
  const bool zero = (mode & FALLOC_FL_ZERO_RANGE) != 0;
  const bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  const int known = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
  if ((mode & ~known) != 0 || punch == zero || (punch && !keep_size)) return Errc::unsupported;
  const std::uint64_t size_bytes = disk.info().size_bytes;
  if (range.bytes == 0 || range.bytes > std::numeric_limits<std::uint64_t>::max() - range.offset) {
    return Errc::invalid_argument;
  }
  if (!keep_size && range.offset + range.bytes > size_bytes) return Errc::unsupported;
  const FileRange inside = clip(range, size_bytes);
  if (inside.bytes == 0) return success();
  return punch ? disk.trim(inside.offset, inside.bytes, false)
               : disk.zero(inside.offset, inside.bytes, false);
}

Result<std::optional<std::uint64_t>> seek(disk::BlockingDisk& disk,
                                          std::uint64_t offset,
                                          SeekFor what) {
  const std::uint64_t size_bytes = disk.info().size_bytes;
  if (offset >= size_bytes) return std::optional<std::uint64_t>();
  const bool for_data = what == SeekFor::data;
  for (std::uint64_t at = offset; at < size_bytes;) {
    VMS_TRY(const auto found, disk.extents(at, size_bytes - at, kExtentsPerStep));
    if (found.empty()) return Errc::unknown;
    for (const disk::DiskExtent& extent : found) {
      if (extent.zero != for_data) return std::optional(std::max(at, extent.offset));
    }
    const std::uint64_t end = found.back().offset + found.back().bytes;
    if (end <= at) return Errc::unknown;
    at = end;
  }
  if (for_data) return std::optional<std::uint64_t>();
  return std::optional(size_bytes);  // every file ends in a hole
}

std::uint64_t block_count(std::uint64_t size_bytes, std::uint64_t mapped_bytes) noexcept {
  const std::uint64_t full = std::max(kUnitsPerBlock, size_bytes / kUnitBytes);
  if (mapped_bytes == 0) return std::max(kUnitsPerBlock, full - kUnitsPerBlock);
  return std::clamp(mapped_bytes / kUnitBytes, kUnitsPerBlock, full);
}

int file_errno(const Error& error) noexcept {
  switch (error.code) {
    case Errc::conflict:
      return ESTALE;  // the name means another disk now
    case Errc::permission:
      return EPERM;
    case Errc::unsupported:
      return EOPNOTSUPP;
    case Errc::timed_out:
    case Errc::closing:
    case Errc::disconnected:
      return EIO;
    default:
      return errc_to_errno(error.code);
  }
}

}  // namespace vmstore::fuse
