// SPDX-License-Identifier: Apache-2.0
// create, ls, info, mv, resize, rm.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>

#include "cli/arguments.h"
#include "cli/attached.h"
#include "cli/disk_tables.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct CreateOptions {
  std::string name;
  std::string size;
  std::uint32_t copies = 1;
};
struct ListOptions {
  std::string glob;
  bool is_long = false;
  bool snapshots = false;
  bool tree = false;
};
struct NameOptions {
  std::string name;
  std::string other;
  bool force = false;
};
struct ResizeOptions {
  std::string name;
  std::string size;
  bool allow_shrink = false;
  bool force = false;
};
struct RemoveOptions {
  std::vector<std::string> names;
  bool now = false;
  bool force = false;
};

Answer<void> create(Context& context, const CreateOptions& options) {
  VMS_TRY(const std::string name, disk_argument(options.name));
  VMS_TRY(const std::uint64_t bytes, size_argument(options.size));
  VMS_TRY(disk::Client * client, context.client());
  json::object fields{{"action", "create"}, {"name", name}, {"size", bytes}};
  if (context.options().dry_run) {
    const Result<disk::DiskSummary> there = client->details(name);
    if (there) return disk_failure(*client, Errc::exists, name);
    if (there.error() != Error(Errc::not_found)) return disk_failure(*client, there.error(), name);
    fields["dry_run"] = true;
    context.output().done("would create " + name + ", " + format_size(bytes), std::move(fields));
    return {};
  }
  const Result<disk::DiskSummary> made = client->create(name, bytes, options.copies);
  if (!made) {
    Failure failure = disk_failure(*client, made.error(), name);
    if (made.error() == Error(Errc::exists)) failure.hint = "vmstore info " + name;
    return failure;
  }
  fields["id"] = made->id.hex();
  context.output().done("created " + name + ", " + format_size(made->size_bytes) +
                            "     next: vmstore attach " + name,
                        std::move(fields));
  return {};
}

Answer<void> list(Context& context, const ListOptions& options) {
  VMS_TRY(disk::Client * client, context.client());
  VMS_TRY(std::vector<disk::DiskSummary> disks, about(client->list(), context.endpoint()));
  std::erase_if(disks, [&](const disk::DiskSummary& disk) {
    return !options.glob.empty() && !matches_glob(options.glob, disk.name);
  });
  std::sort(
      disks.begin(), disks.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  Table table = options.tree ? disk_tree(disks) : disk_table();
  if (options.is_long) {
    for (Column& column : table.columns) column.in_table = column.name != "id";
  }
  for (const disk::DiskSummary& disk : disks) {
    if (!options.tree) table.rows.push_back(disk_row(disk));
  }
  std::vector<Table> tables{std::move(table)};
  if (options.snapshots) {
    std::vector<disk::SnapshotSummary> all;
    for (const disk::DiskSummary& disk : disks) {
      Result<std::vector<disk::SnapshotSummary>> some = client->snapshots(disk.name);
      // Removed since it was listed: no longer there to be shown.
      if (!some && some.error() == Error(Errc::not_found)) continue;
      if (!some) return disk_failure(*client, some.error(), disk.name);
      all.insert(all.end(), some->begin(), some->end());
    }
    tables.push_back(snapshot_table(all));
  }
  return context.output().print(std::move(tables));
}

Answer<void> info(Context& context, const NameOptions& options) {
  VMS_TRY(const DiskReference reference, reference_argument(options.name));
  VMS_TRY(disk::Client * client, context.client());
  const Result<disk::DiskSummary> disk = client->details(reference.disk);
  if (!disk) return disk_failure(*client, disk.error(), reference.disk);
  Result<std::vector<disk::SnapshotSummary>> snapshots = client->snapshots(reference.disk);
  if (!snapshots) return disk_failure(*client, snapshots.error(), reference.disk);
  if (!reference.snapshot.empty()) {
    std::erase_if(*snapshots, [&](const auto& s) { return s.name != reference.snapshot; });
    if (snapshots->empty()) return snapshot_failure(*client, Errc::not_found, reference);
    Table table = snapshot_table(*snapshots);
    table.name = "snapshot";
    table.record = true;
    for (Column& column : table.columns) column.in_table = true;
    return context.output().print({std::move(table)});
  }
  Table table = disk_table();
  table.name = "disk";
  table.record = true;
  table.rows.push_back(disk_row(*disk));
  table.columns.push_back({"mapped", CellKind::bytes});
  table.rows[0].push_back(mapped_cell(*client, reference.disk));
  for (Column& column : table.columns) column.in_table = true;
  return context.output().print({std::move(table), snapshot_table(*snapshots)});
}

Answer<void> rename(Context& context, const NameOptions& options) {
  VMS_TRY(const std::string from, disk_argument(options.name));
  VMS_TRY(const std::string to, disk_argument(options.other));
  VMS_TRY(disk::Client * client, context.client());
  VMS_CHECK(refuse_attached(context, from));
  json::object fields{{"action", "mv"}, {"name", from}, {"to", to}};
  if (context.options().dry_run) {
    const Result<disk::DiskSummary> source = client->details(from);
    if (!source) return disk_failure(*client, source.error(), from);
    if (client->details(to)) return disk_failure(*client, Errc::exists, to);
    fields["dry_run"] = true;
    context.output().done("would rename " + from + " to " + to, std::move(fields));
    return {};
  }
  const Result<void> renamed = client->rename(from, to);
  if (!renamed) {
    return disk_failure(
        *client, renamed.error(), renamed.error() == Error(Errc::exists) ? to : from);
  }
  context.output().done("renamed " + from + " to " + to, std::move(fields));
  return {};
}

Answer<void> resize(Context& context, const ResizeOptions& options) {
  VMS_TRY(const std::string name, disk_argument(options.name));
  VMS_TRY(disk::Client * client, context.client());
  const Result<disk::DiskSummary> disk = client->details(name);
  if (!disk) return disk_failure(*client, disk.error(), name);
  VMS_TRY(const std::uint64_t bytes, new_size_argument(options.size, disk->size_bytes));
  const bool shrinks = bytes < disk->size_bytes;
  if (shrinks && !options.allow_shrink) {
    return Failure::make(ExitCode::usage,
                         name,
                         "would lose everything behind " + format_size(bytes),
                         "give --allow-shrink if that is meant");
  }
  json::object fields{
      {"action", "resize"}, {"name", name}, {"old_size", disk->size_bytes}, {"size", bytes}};
  const std::string change =
      name + " from " + format_size(disk->size_bytes) + " to " + format_size(bytes);
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would resize " + change, std::move(fields));
    return {};
  }
  if (shrinks) VMS_CHECK(context.confirm("shrink " + change + "?"));
  const Result<void> resized = client->resize(name, bytes, options.allow_shrink, options.force);
  if (!resized) return disk_failure(*client, resized.error(), name);
  context.output().done("resized " + change + (disk->held ? "; seen at the next connect" : ""),
                        std::move(fields));
  return {};
}

Answer<void> remove_one(Context& context,
                        disk::Client& client,
                        const std::string& name,
                        const RemoveOptions& options) {
  const Result<disk::DiskSummary> disk = client.details(name);
  if (!disk) return disk_failure(client, disk.error(), name);
  VMS_CHECK(refuse_attached(context, name));
  const Cell mapped = mapped_cell(client, name);
  json::object fields{{"action", "rm"}, {"name", name}, {"now", options.now}};
  std::string what = name;
  if (const auto* const bytes = std::get_if<std::uint64_t>(&mapped)) {
    fields["mapped"] = *bytes;
    what += ", " + format_size(*bytes) + " mapped";
  }
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done(options.now
                              ? "would remove " + what + " for good (what clones share stays)"
                              : "would move " + what + " to the trash; nothing is freed",
                          std::move(fields));
    return {};
  }
  if (options.now) VMS_CHECK(context.confirm("remove " + what + " and its snapshots for good?"));
  const Result<void> removed = client.remove(name, options.now, options.force);
  if (!removed) return disk_failure(client, removed.error(), name);
  context.output().done(options.now ? "removed " + name
                                    : "moved " + name +
                                          " to the trash     back: vmstore trash "
                                          "restore " +
                                          name,
                        std::move(fields));
  return {};
}

Answer<void> remove(Context& context, const RemoveOptions& options) {
  std::vector<std::string> names;
  for (const std::string& text : options.names) {
    const Answer<DiskReference> reference = reference_argument(text);
    if (reference && !reference->snapshot.empty()) {
      return Failure::make(ExitCode::usage, text, "is a snapshot", "vmstore snap rm " + text);
    }
    VMS_TRY(std::string name, disk_argument(text));
    names.push_back(std::move(name));
  }
  VMS_TRY(disk::Client * client, context.client());
  std::size_t failed = 0;
  Failure last;
  for (const std::string& name : names) {
    if (Answer<void> removed = remove_one(context, *client, name, options); !removed) {
      if (names.size() == 1) return removed.error();
      context.output().failure(removed.error());
      last = removed.error();
      ++failed;
    }
  }
  if (failed == 0) return {};
  if (failed == names.size()) return last;
  return Failure::make(
      ExitCode::partly_failed,
      {},
      std::to_string(failed) + " of " + std::to_string(names.size()) + " disks were not removed");
}

void add_rename_and_resize(VerbBook& book) {
  CLI::App& mv = book.verb(
      "mv", {"Renames a disk; its snapshots go with it.", "mv web www", "mv web prod/web"});
  auto names = std::make_shared<NameOptions>();
  mv.add_option("NAME", names->name, "The disk")->required();
  mv.add_option("NEW-NAME", names->other, "Its new name")->required();
  book.action(mv, [names](Context& context) { return rename(context, *names); });

  CLI::App& grow = book.verb(
      "resize",
      {"Changes the size of a disk.", "resize web +10G", "resize web 20G --allow-shrink"});
  auto sizes = std::make_shared<ResizeOptions>();
  grow.add_option("NAME", sizes->name, "The disk")->required();
  grow.add_option("SIZE", sizes->size, "20G, +5G or -5G")->required();
  grow.add_flag("--allow-shrink", sizes->allow_shrink, "Lose what lies behind the new end");
  grow.add_flag("--force", sizes->force, "Fence whoever uses the disk first");
  book.action(grow, [sizes](Context& context) { return resize(context, *sizes); });
}

}  // namespace

void add_disk_verbs(VerbBook& book) {
  CLI::App& make = book.verb("create",
                             {"Creates an empty disk; it takes no space until written.",
                              "create web 20G",
                              "create db/main 1.5T"});
  auto created = std::make_shared<CreateOptions>();
  make.add_option("NAME", created->name, "[GROUP/]NAME")->required();
  make.add_option("SIZE", created->size, "Size with a unit: 512M, 20G, 1.5T")->required();
  make.add_option("--copies", created->copies, "On how many nodes each byte is kept");
  book.action(make, [created](Context& context) { return create(context, *created); });

  CLI::App& ls = book.verb("ls", {"Lists disks.", "ls 'web-*' -l", "ls -s -size -o name,size -H"});
  auto listed = std::make_shared<ListOptions>();
  ls.add_option("GLOB", listed->glob, "Only names that fit: 'web-*'");
  ls.add_flag("-l,--long", listed->is_long, "More columns");
  ls.add_flag("--snaps", listed->snapshots, "Snapshots too");
  ls.add_flag("--tree", listed->tree, "Clones below what they were cloned from");
  book.action(ls, [listed](Context& context) { return list(context, *listed); });

  CLI::App& show =
      book.verb("info", {"Shows one disk or snapshot.", "info web", "info web@monday --json"});
  auto shown = std::make_shared<NameOptions>();
  show.add_option("NAME", shown->name, "[GROUP/]NAME[@SNAP]")->required();
  book.action(show, [shown](Context& context) { return info(context, *shown); });

  add_rename_and_resize(book);

  CLI::App& rm = book.verb(
      "rm",
      {"Moves disks to the trash; --now removes them for good.", "rm web", "rm web-1 web-2 --now"});
  auto removed = std::make_shared<RemoveOptions>();
  rm.add_option("NAME", removed->names, "The disks")->required();
  rm.add_flag("--now", removed->now, "Past the trash, with all snapshots");
  rm.add_flag("--force", removed->force, "Fence whoever uses the disk first");
  book.action(rm, [removed](Context& context) { return remove(context, *removed); });
}

}  // namespace vmstore::cli
