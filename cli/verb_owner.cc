// SPDX-License-Identifier: Apache-2.0
// owner ls, break, discard; verify.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <optional>

#include "cli/arguments.h"
#include "cli/interrupt.h"
#include "cli/leftover.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct OwnerOptions {
  std::string name;
};
struct VerifyOptions {
  std::vector<std::string> names;
  bool all = false;
  bool repair = false;
  bool accept_loss = false;
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
    Failure failure = disk_failure(*client, batches.error(), name);
    if (batches.error() == Errc::busy) {
      failure.hint = "its process lives: vmstore detach " + name + ", or end what has it open";
    }
    return failure;
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
  std::optional<Failure> first_failure;
  bool all_alike = true;
};

Answer<void> verify_one(Context& context,
                        disk::Client& client,
                        const std::string& name,
                        Table& table,
                        VerifyTotals& totals) {
  if (!context.options().dry_run) sweep_snapshots(context, client, name);
  const KeepGoing until_done;  // its snapshot is to be removed
  const Result<disk::VerifyReport> report =
      client.verify(name, {temporary_name(kVerifyPrefix), interrupted});
  if (!report && interrupted()) return interruption();
  if (!report) {
    Failure failure = disk_failure(client, report.error(), name);
    const bool is_unreadable = report.error() == Errc::unknown || report.error() == Errc::corrupt;
    if (is_unreadable)
      failure.hint = "what a repair would lose: vmstore verify " + name + " --repair";
    return failure;
  }
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

Table repaired_table() {
  return Table{"repaired",
               {{"name"},
                {"action"},
                {"lost_records", CellKind::count},
                {"lost_log_bytes", CellKind::bytes},
                {"kept_sequence", CellKind::count},
                {"kept_until", CellKind::time},
                {"lost_snapshots"},
                {"cut_path", CellKind::text}},
               {}};
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

/// "3 records (12288 bytes of log) after sequence 17, written after 2026-…, and snapshot x".
std::string loss_of(const disk::RepairReport& report) {
  if (report.lost_log_bytes == 0) return "nothing";
  std::string text = std::to_string(report.lost_records) + " records (" +
                     std::to_string(report.lost_log_bytes) + " bytes of log) after sequence " +
                     std::to_string(report.kept_sequence);
  if (report.kept_time_ns) text += ", what was written after " + format_time(*report.kept_time_ns);
  if (!report.lost_snapshots.empty()) text += ", the snapshots " + joined(report.lost_snapshots);
  return text;
}

/// Ends the log of a disk at its damage, or says what that would lose.
Answer<void> repair_one(Context& context,
                        disk::Client& client,
                        const std::string& name,
                        bool accept_loss,
                        Table& table) {
  const bool dry_run = context.options().dry_run;
  const Result<disk::RepairReport> report = client.repair(name, accept_loss && !dry_run);
  if (!report) return disk_failure(client, report.error(), name);
  if (!report->needed)
    context.output().note(name + ": its log is whole, there is nothing to repair");
  std::string cut_path = report->done ? report->cut_path : "";
  if (!cut_path.empty()) {
    const auto status = client.node_status();  // only for the whole path
    if (status) cut_path = status->data_folder + "/" + cut_path;
  }
  std::string action = report->lost_log_bytes > 0 ? "cut" : "unmarked";
  if (!report->needed) action = "none";
  if (report->needed && !report->done) action = "would be " + action;
  Cell kept_until;
  if (report->kept_time_ns) kept_until = *report->kept_time_ns;
  table.rows.push_back({name,
                        action,
                        report->lost_records,
                        report->lost_log_bytes,
                        report->kept_sequence,
                        kept_until,
                        joined(report->lost_snapshots),
                        cut_path});
  if (!report->needed || dry_run) return {};
  if (!report->done) {
    return Failure::make(ExitCode::integrity,
                         name,
                         "its log is damaged; a repair would lose " + loss_of(*report),
                         "vmstore verify " + name + " --repair --accept-loss");
  }
  context.output().note(name + ": repaired, lost: " + loss_of(*report));
  if (!cut_path.empty()) {
    context.output().note(name + ": what was cut is kept in " + cut_path + ".log and .data");
  }
  if (report->lost_batches > 0) {
    context.output().note(name + ": the batch file of a dead client was set aside, " +
                          std::to_string(report->lost_batches) + " acknowledged batches");
  }
  if (!report->lost_snapshots.empty()) {
    context.output().note(name + ": remove the lost snapshots with vmstore snap rm");
  }
  return {};
}

Answer<void> verify(Context& context, const VerifyOptions& options) {
  if (options.names.empty() != options.all) {
    return Failure::usage("names of disks, or --all", "vmstore verify --all");
  }
  if (options.accept_loss && !options.repair) {
    return Failure::usage("--accept-loss belongs to --repair", "vmstore verify NAME --repair");
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
  Table repaired = repaired_table();
  VerifyTotals totals;
  for (const std::string& name : names) {
    Answer<void> verified;
    if (options.repair) {
      verified = repair_one(context, *client, name, options.accept_loss, repaired);
    }
    // A dry run leaves a damaged log as it is, and then the disk cannot be read.
    const bool readable = !options.repair || !context.options().dry_run;
    if (verified && readable) verified = verify_one(context, *client, name, table, totals);
    if (verified) continue;
    if (names.size() == 1 || interrupted()) return verified.error();
    if (options.all && verified.error().exit_code == ExitCode::not_found) continue;
    context.output().failure(verified.error());
    ++totals.failed;
    if (!totals.first_failure) totals.first_failure = verified.error();
    totals.all_alike &= totals.first_failure->exit_code == verified.error().exit_code;
  }
  std::vector<Table> tables;
  if (options.repair) tables.push_back(std::move(repaired));
  tables.push_back(std::move(table));
  VMS_CHECK(context.output().print(std::move(tables)));
  if (totals.damaged > 0) {
    return Failure::make(ExitCode::integrity,
                         {},
                         std::to_string(totals.damaged) + " of " + std::to_string(names.size()) +
                             " disks are damaged",
                         options.repair
                             ? "with one copy there is nothing to repair blocks from: clone a good "
                               "snapshot, or restore from a backup"
                             : "clone a good snapshot, or restore from a backup");
  }
  if (totals.failed > 0) {
    const bool is_whole = totals.failed == names.size() && totals.all_alike;
    return Failure::make(is_whole ? totals.first_failure->exit_code : ExitCode::partly_failed,
                         {},
                         std::to_string(totals.failed) + " of " + std::to_string(names.size()) +
                             " disks could not be read",
                         "the reasons are above; what a repair would lose: vmstore verify NAME "
                         "--repair");
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
                              "verify --all",
                              "verify web --repair --accept-loss"});
  auto options = std::make_shared<VerifyOptions>();
  verb.add_option("NAME", options->names, "The disks");
  verb.add_flag("--all", options->all, "Every disk");
  verb.add_flag("--repair",
                options->repair,
                "Also look through the newest log of each, and say what a repair would lose");
  verb.add_flag("--accept-loss", options->accept_loss, "Cut it at the damage; keep what is cut");
  book.action(verb, [options](Context& context) { return verify(context, *options); });
}

}  // namespace vmstore::cli
