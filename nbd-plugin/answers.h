// SPDX-License-Identifier: Apache-2.0
// How answers of a disk become answers of NBD. Names no nbdkit.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"
#include "disk/disk.h"

namespace vmstore::nbd_plugin {

/// The errno to give nbdkit. NBD knows a handful; nbdkit turns every other one into EINVAL, which
/// would tell a guest that its request was wrong, so all the rest is EIO here.
[[nodiscard]] int nbd_errno(Errc code) noexcept;

/// The parts of `found` inside [offset, offset+bytes), from `offset` on and without a gap. nbdkit
/// 1.32 dies of an extent outside the asked range (CVE-2025-47711), and a gap would be called
/// data or hole by luck: what follows one is left out. `unknown` when nothing covers `offset`.
[[nodiscard]] Result<std::vector<disk::DiskExtent>> clip_extents(
    const std::vector<disk::DiskExtent>& found, std::uint64_t offset, std::uint64_t bytes);

}  // namespace vmstore::nbd_plugin
