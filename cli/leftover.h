// SPDX-License-Identifier: Apache-2.0
// Names of what a command makes for its own time only (a disk that is being imported, a snapshot
// that is being exported, the clones of a boot storm, a file that is being written), so that the
// next command can tell what a killed one has left.
//
// A name carries a tag: 8 digits for this boot and its space of process ids (zeros: not known), the
// process id, and when that process began (0: not known). Invariant: dead means that on this boot
// and in this space of ids no such process exists, which the kernel has said; that we cannot see
// one says nothing. Of anything else only its age speaks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "cli/failure.h"
#include "disk/disk.h"

namespace vmstore::cli {

class Context;

/// The tag of this process.
[[nodiscard]] std::string maker_tag();

enum class Maker { alive, dead, unknown };
/// Of the tag that `text` begins with; empty: there is none.
[[nodiscard]] std::optional<Maker> maker_of(std::string_view text);

/// Of a tag of this place: what it says of the start, what /proc says (empty: not readable), and
/// the errno of kill(pid, 0).
[[nodiscard]] Maker judge_maker(std::uint64_t tagged_start,
                                std::optional<std::uint64_t> seen_start,
                                int kill_error);

inline constexpr std::string_view kImportPrefix = "vmstore-import/";
inline constexpr std::string_view kExportPrefix = "vmstore-export-";  // of a snapshot
inline constexpr std::string_view kVerifyPrefix = "vmstore-verify-";  // of a snapshot
inline constexpr std::string_view kStormPrefix = "boot-storm-";
inline constexpr std::string_view kPartMark = ".part-";  // of a file

/// A name of this process for it: prefix, tag, and digits by chance.
[[nodiscard]] std::string temporary_name(std::string_view prefix);

/// Whether a disk or snapshot of that name may be left by a process that is gone: its maker is
/// dead, or is not known here and the thing is older than a day.
[[nodiscard]] bool is_left_over(std::string_view name,
                                std::string_view prefix,
                                std::uint64_t created_ns,
                                std::uint64_t now_ns);

/// Removes left-over disks of that kind for good, and says so. What cannot be removed is left.
void sweep_disks(Context& context, disk::Client& client, std::string_view prefix);
/// Removes those snapshots of one disk whose maker is dead, and names those that may be left over:
/// whoever reads them does not hold them.
void sweep_snapshots(Context& context, disk::Client& client, const std::string& disk);
/// Removes what killed commands left of `path` beside it. The caller makes that file next.
void sweep_parts(const std::string& path);

}  // namespace vmstore::cli
