// SPDX-License-Identifier: Apache-2.0
// Lines of /proc/self/mountinfo.
#pragma once

#include <string>
#include <string_view>

namespace vmstore::cli {

/// Where a mount of vmstore-fuse is; empty: the line is about something else.
[[nodiscard]] std::string mount_point_of_ours(std::string_view line);

}  // namespace vmstore::cli
