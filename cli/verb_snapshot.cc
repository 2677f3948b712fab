// SPDX-License-Identifier: Apache-2.0
// snapshot (alias snap create), snap ls, rm, rollback.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <chrono>

#include "cli/arguments.h"
#include "cli/attached.h"
#include "cli/disk_tables.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct SnapshotOptions {
  std::vector<std::string> names;
  bool force = false;
};

std::string microseconds_text(std::chrono::nanoseconds duration) {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(duration).count();
  return std::to_string(us / 1000) + "." + std::to_string(us % 1000 / 100) + " ms";
}

Answer<void> take(Context& context, const SnapshotOptions& options) {
  std::vector<DiskReference> references;
  for (const std::string& text : options.names) {
    VMS_TRY(DiskReference reference, snapshot_argument(text));
    references.push_back(std::move(reference));
  }
  if (references.size() > 1) {
    return Failure::make(ExitCode::failed,
                         {},
                         "several disks at one instant cannot be cut in this version",
                         "take one after the other, with the guest's writes stopped if they belong "
                         "together");
  }
  const DiskReference& reference = references[0];
  const std::string whole = reference.disk + "@" + reference.snapshot;
  VMS_TRY(disk::Client * client, context.client());
  json::object fields{{"action", "snapshot"}, {"snapshot", whole}};
  if (context.options().dry_run) {
    const Answer<void> there = require_snapshot(*client, reference);
    if (there) return snapshot_failure(*client, Errc::exists, reference);
    const bool has_disk = client->details(reference.disk).has_value();
    if (there.error().exit_code != ExitCode::not_found || !has_disk) return there.error();
    fields["dry_run"] = true;
    context.output().done("would take " + whole, std::move(fields));
    return {};
  }
  const auto start = std::chrono::steady_clock::now();
  const Result<disk::SnapshotTiming> taken = client->snapshot(reference.disk, reference.snapshot);
  const auto took = std::chrono::steady_clock::now() - start;
  if (!taken) {
    if (taken.error() == Error(Errc::not_found)) {
      return disk_failure(*client, taken.error(), reference.disk);
    }
    return snapshot_failure(*client, taken.error(), reference);
  }
  // A holder that took it for us does not say how long the catalogue needed.
  const auto known = taken->metadata.count() != 0 ? taken->metadata : took;
  fields["metadata_ns"] = known.count();
  fields["stall_ns"] = taken->stall.count();
  context.output().done("took " + whole + " in " + microseconds_text(known) +
                            " (the guest waited " + microseconds_text(taken->stall) + ")",
                        std::move(fields));
  return {};
}

Answer<void> list(Context& context, const SnapshotOptions& options) {
  VMS_TRY(disk::Client * client, context.client());
  std::vector<std::string> names;
  for (const std::string& text : options.names) {
    VMS_TRY(std::string name, disk_argument(text));
    names.push_back(std::move(name));
  }
  const bool all = names.empty();
  if (all) {
    VMS_TRY(const std::vector<disk::DiskSummary> disks, about(client->list(), context.endpoint()));
    for (const disk::DiskSummary& disk : disks) names.push_back(disk.name);
    std::sort(names.begin(), names.end());
  }
  std::vector<disk::SnapshotSummary> found;
  for (const std::string& name : names) {
    const Result<std::vector<disk::SnapshotSummary>> some = client->snapshots(name);
    if (!some && all && some.error() == Error(Errc::not_found)) continue;
    if (!some) return disk_failure(*client, some.error(), name);
    found.insert(found.end(), some->begin(), some->end());
  }
  return context.output().print({snapshot_table(found)});
}

Answer<void> remove(Context& context, const SnapshotOptions& options) {
  std::vector<DiskReference> references;
  for (const std::string& text : options.names) {
    VMS_TRY(DiskReference reference, snapshot_argument(text));
    references.push_back(std::move(reference));
  }
  VMS_TRY(disk::Client * client, context.client());
  std::size_t removed = 0;
  for (const DiskReference& reference : references) {
    const std::string whole = reference.disk + "@" + reference.snapshot;
    VMS_CHECK(refuse_attached(context, whole));
    json::object fields{{"action", "snap rm"}, {"snapshot", whole}};
    if (context.options().dry_run) {
      VMS_CHECK(require_snapshot(*client, reference));
      fields["dry_run"] = true;
      context.output().done("would remove " + whole + "; clones of it stay as they are",
                            std::move(fields));
      continue;
    }
    const Result<void> done = client->remove_snapshot(reference.disk, reference.snapshot);
    if (!done) {
      Failure failure = snapshot_failure(*client, done.error(), reference);
      if (removed > 0) failure.exit_code = ExitCode::partly_failed;
      return failure;
    }
    ++removed;
    context.output().done("removed " + whole, std::move(fields));
  }
  return {};
}

Answer<void> rollback(Context& context, const SnapshotOptions& options) {
  VMS_TRY(const DiskReference reference, snapshot_argument(options.names.at(0)));
  const std::string whole = reference.disk + "@" + reference.snapshot;
  VMS_TRY(disk::Client * client, context.client());
  json::object fields{{"action", "rollback"}, {"snapshot", whole}};
  const std::string what = reference.disk + " back to @" + reference.snapshot;
  VMS_CHECK(require_snapshot(*client, reference));  // before anything is asked
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would set " + what + "; what was written since would be gone",
                          std::move(fields));
    return {};
  }
  VMS_CHECK(context.confirm("set " + what + "? What was written since is gone."));
  const Result<void> done = client->rollback(reference.disk, reference.snapshot, options.force);
  if (!done) return snapshot_failure(*client, done.error(), reference);
  context.output().done("set " + what, std::move(fields));
  return {};
}

CLI::App& add_take(VerbBook& book, CLI::App& verb) {
  auto options = std::make_shared<SnapshotOptions>();
  verb.add_option("NAME@SNAP", options->names, "The disk and the snapshot's name")->required();
  book.action(verb, [options](Context& context) { return take(context, *options); });
  return verb;
}

}  // namespace

void add_snapshot_verbs(VerbBook& book) {
  const VerbBook::Text take_text{"Takes a snapshot, of a running disk too.",
                                 "snapshot web@monday",
                                 "snapshot db/main@before-upgrade"};
  add_take(book, book.verb("snapshot", take_text));
  CLI::App& snap =
      book.group("snap", {"Snapshots of disks.", "snap ls web", "snap rollback web@monday"});
  add_take(book, book.verb(snap, "create", take_text));

  CLI::App& ls = book.verb(
      snap, "ls", {"Lists snapshots, of all disks or of some.", "snap ls", "snap ls web --json"});
  auto listed = std::make_shared<SnapshotOptions>();
  ls.add_option("NAME", listed->names, "The disks");
  book.action(ls, [listed](Context& context) { return list(context, *listed); });

  CLI::App& rm = book.verb(snap,
                           "rm",
                           {"Removes snapshots; clones do not need them.",
                            "snap rm web@monday",
                            "snap rm web@monday web@tuesday"});
  auto removed = std::make_shared<SnapshotOptions>();
  rm.add_option("NAME@SNAP", removed->names, "The snapshots")->required();
  book.action(rm, [removed](Context& context) { return remove(context, *removed); });

  CLI::App& back = book.verb(snap,
                             "rollback",
                             {"Sets a disk back to a snapshot.",
                              "snap rollback web@monday",
                              "snap rollback web@monday --force -y"});
  auto rolled = std::make_shared<SnapshotOptions>();
  back.add_option("NAME@SNAP", rolled->names, "The snapshot")->required()->expected(1);
  back.add_flag("--force", rolled->force, "Fence whoever uses the disk first");
  book.action(back, [rolled](Context& context) { return rollback(context, *rolled); });
}

}  // namespace vmstore::cli
