// SPDX-License-Identifier: Apache-2.0
// trash ls, restore, purge.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <optional>

#include "cli/arguments.h"
#include "cli/nearest.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct TrashOptions {
  std::string name;
  std::string as;
  bool all = false;
};

Failure trash_failure(disk::Client& client, const Error& error, const std::string& name) {
  if (error != Error(Errc::not_found)) return disk_failure(client, error, name);
  const Result<std::vector<disk::TrashSummary>> trash = client.trash();
  std::vector<std::string> names;
  if (trash) {
    for (const disk::TrashSummary& entry : *trash) names.push_back(entry.name);
  }
  const std::optional<std::string> close = nearest(name, names);
  return Failure{ExitCode::not_found,
                 "not_found",
                 name,
                 "not in the trash" + (close ? " (closest: \"" + *close + "\")" : ""),
                 "vmstore trash ls"};
}

Answer<void> list(Context& context) {
  VMS_TRY(disk::Client * client, context.client());
  VMS_TRY(std::vector<disk::TrashSummary> trash, about(client->trash(), context.endpoint()));
  std::sort(trash.begin(), trash.end(), [](const auto& a, const auto& b) {
    return a.trashed_ns < b.trashed_ns;
  });
  Table table{"trash",
              {{"name"},
               {"size", CellKind::bytes},
               {"trashed", CellKind::time},
               {"id", CellKind::text, false}},
              {}};
  for (const disk::TrashSummary& entry : trash) {
    table.rows.push_back({entry.name,
                          entry.size_bytes,
                          entry.trashed_ns == 0 ? Cell() : Cell(entry.trashed_ns),
                          entry.id.hex()});
  }
  return context.output().print({std::move(table)});
}

Answer<void> restore(Context& context, const TrashOptions& options) {
  VMS_TRY(const std::string name, disk_argument(options.name));
  VMS_TRY(const std::string as, disk_argument(options.as.empty() ? name : options.as));
  VMS_TRY(disk::Client * client, context.client());
  json::object fields{{"action", "restore"}, {"name", name}, {"as", as}};
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would restore " + name + " as " + as, std::move(fields));
    return {};
  }
  const Result<void> restored = client->restore(name, as);
  if (!restored) {
    if (restored.error() == Error(Errc::exists)) {
      return Failure::make(ExitCode::exists,
                           as,
                           "exists already",
                           "vmstore trash restore " + name + " --as NEW-NAME");
    }
    return trash_failure(*client, restored.error(), name);
  }
  context.output().done("restored " + as, std::move(fields));
  return {};
}

Answer<void> purge(Context& context, const TrashOptions& options) {
  if (options.name.empty() != options.all) {
    return Failure::usage(
        options.all ? "either a name or --all" : "a name, or --all for everything",
        "vmstore trash ls");
  }
  std::string name;
  if (!options.all) {
    VMS_TRY(name, disk_argument(options.name));
  }
  VMS_TRY(disk::Client * client, context.client());
  VMS_TRY(const std::vector<disk::TrashSummary> trash, about(client->trash(), context.endpoint()));
  const auto hit = [&](const auto& entry) { return options.all || entry.name == name; };
  const auto count = static_cast<std::uint64_t>(std::count_if(trash.begin(), trash.end(), hit));
  if (count == 0 && !options.all) return trash_failure(*client, Errc::not_found, name);
  json::object fields{{"action", "purge"}, {"disks", count}};
  const std::string what =
      options.all ? std::to_string(count) + (count == 1 ? " disk" : " disks") : name;
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would purge " + what + "; vmstore gc then frees their space",
                          std::move(fields));
    return {};
  }
  if (count > 0) VMS_CHECK(context.confirm("remove " + what + " from the trash for good?"));
  const Result<void> purged = client->purge(name);
  if (!purged) return trash_failure(*client, purged.error(), name);
  context.output().done("purged " + what + "     next: vmstore gc", std::move(fields));
  return {};
}

}  // namespace

void add_trash_verbs(VerbBook& book) {
  CLI::App& trash =
      book.group("trash", {"Removed disks, kept for 24 hours.", "trash ls", "trash restore web"});
  CLI::App& ls = book.verb(trash, "ls", {"Lists removed disks.", "trash ls", "trash ls --json"});
  book.action(ls, [](Context& context) { return list(context); });

  CLI::App& back = book.verb(trash,
                             "restore",
                             {"Brings a disk back with its snapshots.",
                              "trash restore web",
                              "trash restore web --as web2"});
  auto options = std::make_shared<TrashOptions>();
  back.add_option("NAME", options->name, "The name it had")->required();
  back.add_option("--as", options->as, "Another name");
  book.action(back, [options](Context& context) { return restore(context, *options); });

  CLI::App& out =
      book.verb(trash,
                "purge",
                {"Removes disks from the trash for good.", "trash purge web", "trash purge --all"});
  auto purged = std::make_shared<TrashOptions>();
  out.add_option("NAME", purged->name, "The name it had");
  out.add_flag("--all", purged->all, "Everything in the trash");
  book.action(out, [purged](Context& context) { return purge(context, *purged); });
}

}  // namespace vmstore::cli
