// SPDX-License-Identifier: Apache-2.0
// Disks and snapshots as rows: the same columns wherever they are shown.
#pragma once

#include <string>
#include <vector>

#include "cli/output.h"
#include "disk/disk.h"

namespace vmstore::cli {

/// The table "disks" without rows.
[[nodiscard]] Table disk_table();
[[nodiscard]] std::vector<Cell> disk_row(const disk::DiskSummary& disk);
[[nodiscard]] Table snapshot_table(const std::vector<disk::SnapshotSummary>& snapshots);
/// How much of the disk has content; empty when that cannot be told in a short time.
[[nodiscard]] Cell mapped_cell(disk::Client& client, const std::string& name);
/// The name, indented below the disk whose snapshot it was cloned from, for the whole list.
[[nodiscard]] Table disk_tree(const std::vector<disk::DiskSummary>& disks);

}  // namespace vmstore::cli
