// SPDX-License-Identifier: Apache-2.0
// What calls on a file mean for a disk. Names no libfuse.
#pragma once

#include <cstdint>
#include <optional>

#include "base/result.h"
#include "disk/disk.h"

namespace vmstore::fuse {

/// Of the kernel's calls, so that offset and length never change places.
struct FileRange {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
};

/// The part of a range inside a file of `size_bytes`.
[[nodiscard]] FileRange clip(const FileRange& range, std::uint64_t size_bytes) noexcept;

/// fallocate(2): punching a hole and zeroing both make zeros that take no space. `unsupported`:
/// reserving space, inserting, collapsing, and whatever would make the file longer.
[[nodiscard]] Result<void> allocate(disk::BlockingDisk& disk, int mode, const FileRange& range);

enum class SeekFor { data, hole };
/// lseek(2) with SEEK_DATA or SEEK_HOLE: the place found, or empty for ENXIO.
[[nodiscard]] Result<std::optional<std::uint64_t>> seek(disk::BlockingDisk& disk,
                                                        std::uint64_t offset,
                                                        SeekFor what);

/// st_blocks. Never 0, which tar and grep take as "all zeros, need not be read"; less than the size
/// where nothing is known, so that cp and tar ask for the holes.
[[nodiscard]] std::uint64_t block_count(std::uint64_t size_bytes,
                                        std::uint64_t mapped_bytes) noexcept;

/// The errno of a failed call.
[[nodiscard]] int file_errno(const Error& error) noexcept;

}  // namespace vmstore::fuse
