// SPDX-License-Identifier: Apache-2.0
// owner ls, break, discard; verify.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>

#include "cli/arguments.h"
#include "cli/interrupt.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct OwnerOptions {
  std::string name;
};
struct VerifyOptions {
  std::vector<std::string> names;
  bool all = false;
};

Answer<void> list(Context& context, const OwnerOptions& options) {
  VMS_TRY(disk::Client * client, context.client());
  std::vector<disk::DiskSummary> disks;
  if (options.name.empty()) {
    VMS_TRY(disks, about(client->list(), context.endpoint()));
  } else {
    VMS_TRY(const std::string name, disk_argument(options.name));
    Result<disk::DiskSummary> disk = client->details(name);
    if (!disk) return disk_failure(*client, disk.error(), name);
    disks.push_back(std::move(*disk));
  }
  Table table{"owners",
              {{"name"},
               {"held", CellKind::yes_no},
               {"holder"},
               {"clean", CellKind::yes_no},
               {"epoch", CellKind::count}},
              {}};
  std::sort(
      disks.begin(), disks.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  for (const disk::DiskSummary& disk : disks) {
    table.rows.push_back({disk.name,
                          disk.held,
                          disk.holder.empty() ? Cell() : Cell(disk.holder),
                          disk.clean,
                          disk.epoch});
  }
  return context.output().print({std::move(table)});
}

Answer<void> break_owner(Context& context, const OwnerOptions& options) {
  VMS_TRY(const std::string name, disk_argument(options.name));
  VMS_TRY(disk::Client * client, context.client());
  const Result<disk::DiskSummary> disk = client->details(name);
  if (!disk) return disk_failure(*client, disk.error(), name);
  json::object fields{{"action", "owner break"}, {"name", name}, {"holder", disk->holder}};
  const std::string holder = disk->holder.empty() ? "whoever holds it" : disk->holder;
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would take " + name + " from " + holder, std::move(fields));
    return {};
  }
  VMS_CHECK(context.confirm("take " + name + " from " + holder +
                            "? Writes it has not committed are answered with errors there."));
  const Result<void> broken = client->break_owner(name);
  if (!broken) return disk_failure(*client, broken.error(), name);
  context.output().done("took " + name + " from " + holder + "; the next to open it recovers it",
                        std::move(fields));
  return {};
}

Answer<void> discard(Context& context, const OwnerOptions& options) {
  VMS_TRY(const std::string name, disk_argument(options.name));
  VMS_TRY(disk::Client * client, context.client());
  json::object fields{{"action", "owner discard"}, {"name", name}};
  if (context.options().dry_run) {
    const Result<disk::DiskSummary> disk = client->details(name);
    if (!disk) return disk_failure(*client, disk.error(), name);
    fields["dry_run"] = true;
    context.output().done("would set the batch file of " + name + " on this host aside",
                          std::move(fields));
    return {};
  }
  VMS_CHECK(context.confirm("give up what a dead client wrote to " + name +
                            " and nobody has committed?"));
  const Result<std::uint64_t> batches = client->discard_batch_file(name);
  if (!batches) {
    if (batches.error() == Error(Errc::not_found)) {
      const Result<disk::DiskSummary> disk = client->details(name);
      if (disk) return Failure::make(ExitCode::not_found, name, "has no batch file on this host");
    }
    return disk_failure(*client, batches.error(), name);
  }
  fields["batches"] = *batches;
  context.output().done("set the batch file of " + name + " aside: " + std::to_string(*batches) +
                            (*batches == 1 ? " acknowledged batch" : " acknowledged batches"),
                        std::move(fields));
  return {};
}

struct VerifyTotals {
  std::size_t damaged = 0;
  std::size_t failed = 0;
};

Answer<void> verify_one(Context& context,
                        disk::Client& client,
                        const std::string& name,
                        Table& table,
                        VerifyTotals& totals) {
  const Result<disk::VerifyReport> report = client.verify(name);
  if (!report) return disk_failure(client, report.error(), name);
  if (report->bad_blocks > 0) {
    ++totals.damaged;
    std::string where;
    for (const std::uint64_t offset : report->bad_offsets) {
      if (where.size() > 400) {
        where += " …";
        break;
      }
      where += (where.empty() ? "" : " ") + std::to_string(offset);
    }
    context.output().note(name + ": damaged at byte " + where);
  }
  json::array offsets(report->bad_offsets.begin(), report->bad_offsets.end());
  table.rows.push_back({name, report->blocks, report->bad_blocks, json::serialize(offsets)});
  return {};
}

Answer<void> verify(Context& context, const VerifyOptions& options) {
  if (options.names.empty() != options.all) {
    return Failure::usage("names of disks, or --all", "vmstore verify --all");
  }
  VMS_TRY(disk::Client * client, context.client());
  std::vector<std::string> names;
  for (const std::string& text : options.names) {
    VMS_TRY(std::string name, disk_argument(text));
    names.push_back(std::move(name));
  }
  if (options.all) {
    VMS_TRY(const std::vector<disk::DiskSummary> disks, about(client->list(), context.endpoint()));
    for (const disk::DiskSummary& disk : disks) names.push_back(disk.name);
    std::sort(names.begin(), names.end());
  }
  Table table{"verified",
              {{"name"},
               {"blocks", CellKind::count},
               {"bad_blocks", CellKind::count},
               {"bad_offsets", CellKind::text, false}},
              {}};
  VerifyTotals totals;
  for (const std::string& name : names) {
    const Answer<void> verified = verify_one(context, *client, name, table, totals);
    if (verified) continue;
    if (names.size() == 1) return verified.error();
    if (options.all && verified.error().exit_code == ExitCode::not_found) continue;
    context.output().failure(verified.error());
    ++totals.failed;
  }
  VMS_CHECK(context.output().print({std::move(table)}));
  if (totals.damaged > 0) {
    return Failure::make(ExitCode::integrity,
                         {},
                         std::to_string(totals.damaged) + " of " + std::to_string(names.size()) +
                             " disks are damaged",
                         "clone a good snapshot, or restore from a backup");
  }
  if (totals.failed > 0) {
    return Failure::make(ExitCode::partly_failed,
                         {},
                         std::to_string(totals.failed) + " of " + std::to_string(names.size()) +
                             " disks could not be read");
  }
  return {};
}

}  // namespace

void add_owner_verbs(VerbBook& book) {
  CLI::App& owner =
      book.group("owner", {"Who may write to a disk.", "owner ls", "owner break web"});
  CLI::App& ls =
      book.verb(owner, "ls", {"Shows who holds which disk.", "owner ls", "owner ls web --json"});
  auto listed = std::make_shared<OwnerOptions>();
  ls.add_option("NAME", listed->name, "One disk only");
  book.action(ls, [listed](Context& context) { return list(context, *listed); });

  CLI::App& take = book.verb(owner,
                             "break",
                             {"Fences whoever holds a disk; the next to open it recovers it.",
                              "owner break web",
                              "owner break web -y"});
  auto broken = std::make_shared<OwnerOptions>();
  take.add_option("NAME", broken->name, "The disk")->required();
  book.action(take, [broken](Context& context) { return break_owner(context, *broken); });

  CLI::App& drop = book.verb(owner,
                             "discard",
                             {"Sets aside the batch file a dead client left on this host.",
                              "owner discard web",
                              "owner discard web -y"});
  auto dropped = std::make_shared<OwnerOptions>();
  drop.add_option("NAME", dropped->name, "The disk")->required();
  book.action(drop, [dropped](Context& context) { return discard(context, *dropped); });
}

void add_verify_verbs(VerbBook& book) {
  CLI::App& verb = book.verb("verify",
                             {"Reads every block of disks and their snapshots and checks "
                              "its sum.",
                              "verify web",
                              "verify --all"});
  auto options = std::make_shared<VerifyOptions>();
  verb.add_option("NAME", options->names, "The disks");
  verb.add_flag("--all", options->all, "Every disk");
  book.action(verb, [options](Context& context) { return verify(context, *options); });
}

}  // namespace vmstore::cli
