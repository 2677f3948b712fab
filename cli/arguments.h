// SPDX-License-Identifier: Apache-2.0
// What people type, checked: names, sizes, durations, patterns; and the failures that tell them
// what they probably meant.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/units.h"
#include "cli/failure.h"
#include "disk/disk.h"

namespace vmstore::cli {

/// [GROUP/]NAME, without a snapshot.
[[nodiscard]] Answer<std::string> disk_argument(std::string_view text);
/// [GROUP/]NAME or [GROUP/]NAME@SNAP.
[[nodiscard]] Answer<DiskReference> reference_argument(std::string_view text);
/// [GROUP/]NAME@SNAP.
[[nodiscard]] Answer<DiskReference> snapshot_argument(std::string_view text);

/// A size of a disk: "20G"; a bare number is refused with a hint, so is what is no multiple of 512.
[[nodiscard]] Answer<std::uint64_t> size_argument(std::string_view text);
/// "20G", "+5G", "-5G", relative to `now`.
[[nodiscard]] Answer<std::uint64_t> new_size_argument(std::string_view text, std::uint64_t now);
/// "500ms", "10s", "10" (seconds), "2m".
[[nodiscard]] Answer<std::chrono::milliseconds> duration_argument(std::string_view text);

/// The names for `clone --count`: `pattern` has one %d or %0Nd; without a pattern, DST-1, DST-2, …
/// padded to one width. All are checked.
[[nodiscard]] Answer<std::vector<std::string>> clone_names(const std::string& destination,
                                                           std::uint64_t count,
                                                           const std::string& pattern);

/// Whether `text` fits a shell pattern; '*' does not stop at '/'.
[[nodiscard]] bool matches_glob(const std::string& pattern, const std::string& text);

/// An error about a disk or snapshot, with what to do next; a name that does not exist comes with
/// the nearest one that does.
[[nodiscard]] Failure disk_failure(disk::Client& client,
                                   const Error& error,
                                   const std::string& name);
[[nodiscard]] Failure snapshot_failure(disk::Client& client,
                                       const Error& error,
                                       const DiskReference& reference);

/// The snapshot, or `not_found` as snapshot_failure tells it.
[[nodiscard]] Answer<disk::SnapshotSummary> find_snapshot(disk::Client& client,
                                                          const DiskReference& reference);
/// The same where only its absence matters.
[[nodiscard]] Answer<void> require_snapshot(disk::Client& client, const DiskReference& reference);

}  // namespace vmstore::cli
