// SPDX-License-Identifier: Apache-2.0
// df, du, gc. Figures that nobody has counted are absent, never guessed.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>

#include "base/ids.h"
#include "cli/arguments.h"
#include "cli/disk_tables.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct UsageOptions {
  std::string glob;
};

Answer<void> free_space(Context& context) {
  VMS_TRY(disk::Client * client, context.client());
  VMS_TRY(const disk::NodeStatus status, about(client->node_status(), context.endpoint()));
  Table table{"node",
              {{"data_folder"},
               {"total", CellKind::bytes},
               {"free", CellKind::bytes},
               {"used", CellKind::bytes},
               {"unchecked", CellKind::bytes, false},
               {"keys", CellKind::count},
               {"journal", CellKind::bytes, false},
               {"journal_used", CellKind::bytes, false},
               {"sessions", CellKind::count, false},
               {"uptime_ms", CellKind::count, false},
               {"direct_io", CellKind::yes_no, false},
               {"version", CellKind::text, false},
               {"store", CellKind::text, false}},
              {{status.data_folder,
                status.total_bytes,
                status.free_bytes,
                status.used_bytes,
                status.unchecked_bytes,
                status.key_count,
                status.journal_bytes,
                status.journal_used_bytes,
                status.session_count,
                static_cast<std::uint64_t>(std::max<std::int64_t>(status.uptime.count(), 0)),
                status.direct_io,
                status.version,
                status.store}}};
  for (const std::string& warning : status.warnings) context.output().note(warning);
  return context.output().print({std::move(table)});
}

Answer<void> disk_usage(Context& context, const UsageOptions& options) {
  VMS_TRY(disk::Client * client, context.client());
  VMS_TRY(std::vector<disk::DiskSummary> disks, about(client->list(), context.endpoint()));
  std::sort(
      disks.begin(), disks.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  // "mapped" is what the index names, shared or not: unique bytes need an account of who shares
  // what, which only a garbage collection round has.
  Table table{"disks", {{"name"}, {"size", CellKind::bytes}, {"mapped", CellKind::bytes}}, {}};
  bool any = false;
  for (const disk::DiskSummary& disk : disks) {
    if (!options.glob.empty() && !matches_glob(options.glob, disk.name)) continue;
    table.rows.push_back({disk.name, disk.size_bytes, mapped_cell(*client, disk.name)});
    any = true;
  }
  if (!any && !options.glob.empty() && options.glob.find_first_of("*?[") == std::string::npos) {
    return disk_failure(*client, Errc::not_found, options.glob);
  }
  return context.output().print({std::move(table)});
}

/// What the node says of a round that freed nothing: whose view it could not follow.
std::string why_nothing_was_freed(disk::Client& client, const Error& error) {
  if (error == Errc::busy) return "a round is under way already: wait for it, or look with df";
  std::string hint = "nothing was freed; a round that cannot see everything frees nothing";
  const bool unreachable = error == Errc::unavailable || error == Errc::disconnected ||
                           error == Errc::timed_out || error == Errc::permission;
  if (unreachable) return hint;
  const auto status = client.node_status();
  if (!status) return hint;
  for (const std::string& warning : status->warnings) {
    if (warning.find("garbage collection") != std::string::npos) hint = warning;
  }
  return hint;
}

Answer<void> collect(Context& context) {
  VMS_TRY(disk::Client * client, context.client());
  const bool dry_run = context.options().dry_run;
  const auto collected = client->collect_garbage(dry_run);
  if (!collected) {
    return Failure::from(
        collected.error(), context.endpoint(), why_nothing_was_freed(*client, collected.error()));
  }
  const disk::GcReport& report = *collected;
  json::object fields{{"action", "gc"},
                      {"round", report.round},
                      {"bytes_freed", report.bytes_freed},
                      {"blocks_punched", report.blocks_punched},
                      {"keys_deleted", report.keys_deleted},
                      {"blocks_live", report.blocks_live},
                      {"pages_visited", report.pages_visited},
                      {"dry_run", dry_run}};
  context.output().done(std::string(dry_run ? "would free " : "freed ") +
                            format_size(report.bytes_freed) + " in " +
                            std::to_string(report.blocks_punched) + " blocks and " +
                            std::to_string(report.keys_deleted) + " keys; " +
                            format_size(report.blocks_live * kBlockBytes) + " are in use (round " +
                            std::to_string(report.round) + ")",
                        std::move(fields));
  return {};
}

}  // namespace

void add_space_verbs(VerbBook& book) {
  CLI::App& df = book.verb("df", {"Space of the node.", "df", "df --bytes -o free -H"});
  book.action(df, [](Context& context) { return free_space(context); });

  CLI::App& du = book.verb(
      "du",
      {"Space of disks: their size and what of it is mapped.", "du", "du 'web-*' -s -mapped"});
  auto options = std::make_shared<UsageOptions>();
  du.add_option("GLOB", options->glob, "Only names that fit");
  book.action(du, [options](Context& context) { return disk_usage(context, *options); });

  CLI::App& gc = book.verb(
      "gc", {"Runs one round of garbage collection and waits for it.", "gc", "gc --dry-run"});
  book.action(gc, [](Context& context) { return collect(context); });
}

}  // namespace vmstore::cli
