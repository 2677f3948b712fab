// SPDX-License-Identifier: Apache-2.0
#include "cli/disk_tables.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace vmstore::cli {
namespace {

std::string_view state_of(const disk::DiskSummary& disk) noexcept {
  if (disk.held) return "held";
  return disk.clean ? "free" : "unclean";
}

Cell text_or_unknown(const std::string& text) {
  return text.empty() ? Cell() : Cell(text);
}
Cell time_or_unknown(std::uint64_t ns) {
  return ns == 0 ? Cell() : Cell(ns);
}

void append_below(const std::vector<disk::DiskSummary>& disks,
                  const std::string& parent,
                  std::size_t depth,
                  Table& table) {
  for (const disk::DiskSummary& disk : disks) {
    const std::string base = disk.base_name.substr(0, disk.base_name.find('@'));
    const bool has_parent = std::any_of(
        disks.begin(), disks.end(), [&](const auto& other) { return other.name == base; });
    if (parent.empty() ? has_parent : base != parent) continue;
    std::vector<Cell> row = disk_row(disk);
    if (depth > 0) row[0] = std::string(2 * depth - 2, ' ') + "└ " + disk.name;
    table.rows.push_back(std::move(row));
    // Names can be given again: what looks like a circle ends at the number of disks.
    if (depth < disks.size()) append_below(disks, disk.name, depth + 1, table);
  }
}

}  // namespace

Table disk_table() {
  return {"disks",
          {{"name"},
           {"size", CellKind::bytes},
           {"state"},
           {"base"},
           {"copies", CellKind::count, false},
           {"created", CellKind::time, false},
           {"holder", CellKind::text, false},
           {"epoch", CellKind::count, false},
           {"id", CellKind::text, false}},
          {}};
}

std::vector<Cell> disk_row(const disk::DiskSummary& disk) {
  return {disk.name,
          disk.size_bytes,
          std::string(state_of(disk)),
          text_or_unknown(disk.base_name),
          std::uint64_t{disk.copies},
          time_or_unknown(disk.created_ns),
          text_or_unknown(disk.holder),
          disk.epoch,
          disk.id.hex()};
}

Table snapshot_table(const std::vector<disk::SnapshotSummary>& snapshots) {
  Table table{"snapshots",
              {{"snapshot"},
               {"size", CellKind::bytes},
               {"created", CellKind::time},
               {"written_out", CellKind::yes_no, false}},
              {}};
  for (const disk::SnapshotSummary& snapshot : snapshots) {
    table.rows.push_back({snapshot.disk + "@" + snapshot.name,
                          snapshot.size_bytes,
                          time_or_unknown(snapshot.created_ns),
                          snapshot.written_out});
  }
  return table;
}

Cell mapped_cell(disk::Client& client, const std::string& name) {
  const auto mapped = client.mapped_bytes(name);
  return mapped && *mapped ? Cell(**mapped) : Cell();  // a number for people: never an error
}

Table disk_tree(const std::vector<disk::DiskSummary>& disks) {
  Table table = disk_table();
  append_below(disks, {}, 0, table);
  return table;
}

}  // namespace vmstore::cli
