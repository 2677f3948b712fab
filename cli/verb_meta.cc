// SPDX-License-Identifier: Apache-2.0
// meta backup, restore, rebuild.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "cli/interrupt.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/program.h"
#include "cli/verbs.h"
#include "meta/backup.h"

namespace vmstore::cli {
namespace {

constexpr std::uintmax_t kBackupBytesMax = std::uintmax_t{4} << 30;

struct MetaOptions {
  std::string file;
  std::string data;
  std::string place;  // of a catalogue that is not in the folder: "etcd=URL[,URL...]"
  bool overwrite = false;
  bool accept_loss = false;
};

std::uint64_t now_ns() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
}

Answer<void> backup(Context& context, const MetaOptions& options) {
  VMS_TRY(disk::Client * client, context.client());
  VMS_TRY(const disk::NodeStatus status, about(client->node_status(), context.endpoint()));
  json::object fields{{"action", "meta backup"}, {"file", options.file}};
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would write the catalogue to " + options.file, std::move(fields));
    return {};
  }
  const KeepGoing until_done;
  VMS_TRY(OutputFile file, OutputFile::create(options.file, options.overwrite));
  meta::BackupWriter writer;
  VMS_CHECK(file.append(writer.begin(status.store, format_time(now_ns()))));
  Answer<void> written;
  const auto page = [&](const std::vector<disk::CatalogueEntry>& entries) -> Result<void> {
    if (interrupted()) return Errc::interrupted;
    written = file.append(writer.entries(entries));
    if (!written) return Errc::io_error;
    return {};
  };
  const Result<std::uint64_t> revision = client->export_catalogue(page);
  if (!written) return written.error();
  if (!revision) return Failure::from(revision.error(), context.endpoint());
  VMS_CHECK(file.append(writer.end(*revision)));
  VMS_CHECK(file.commit());
  fields["entries"] = writer.count();
  fields["revision"] = *revision;
  context.output().done("wrote " + std::to_string(writer.count()) + " entries of revision " +
                            std::to_string(*revision) + " to " + options.file,
                        std::move(fields));
  return {};
}

Answer<meta::Backup> read_backup(const std::string& path) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return Failure::from(Error(errno_to_errc(error.value()), error.value()), path);
  if (size > kBackupBytesMax) {
    return Failure::make(ExitCode::integrity, path, "too large for a backup of a catalogue");
  }
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return Failure::from(Errc::io_error, path);
  std::string why;
  Result<meta::Backup> parsed = meta::parse_backup(text, why);
  if (parsed) return std::move(*parsed);
  Failure failure = Failure::from(parsed.error(), path, "use another backup");
  if (parsed.error() == Errc::newer_format) failure.hint = "use the version that wrote it";
  if (parsed.error() == Errc::corrupt) failure.what = why;
  return failure;
}

Failure restore_failure(const Error& error, const Context& context, const MetaOptions& options) {
  if (error == Errc::exists) {
    return Failure::make(ExitCode::exists,
                         context.endpoint(),
                         "the store is not empty",
                         "a backup goes only into a store without disks");
  }
  if (error == Errc::not_found) {
    return Failure::make(ExitCode::not_found,
                         options.file,
                         "keys that it names are gone (see above)",
                         "use another backup, or stop the node and restore what is left with "
                         "--data DIR --accept-loss");
  }
  return Failure::from(error, context.endpoint(), "the same restore may be repeated");
}

/// Into a node that runs.
Answer<void> restore_online(Context& context,
                            const MetaOptions& options,
                            const meta::Backup& backup,
                            const std::string& what) {
  VMS_TRY(disk::Client * client, context.client());
  VMS_TRY(const disk::NodeStatus status, about(client->node_status(), context.endpoint()));
  if (status.store != backup.store) {
    return Failure::make(ExitCode::failed,
                         options.file,
                         "is of store " + backup.store + ", this one is " + status.store,
                         "restore it into the store it was taken from");
  }
  json::object fields{{"action", "meta restore"},
                      {"file", options.file},
                      {"entries", backup.entries.size()},
                      {"revision", backup.revision}};
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would put back " + what, std::move(fields));
    return {};
  }
  VMS_CHECK(context.confirm("put back " + what + " into the empty catalogue?"));
  const Result<void> restored = client->import_catalogue(backup.entries, false);
  if (!restored) return restore_failure(restored.error(), context, options);
  context.output().done("put back " + what + "     next: vmstore verify --all", std::move(fields));
  return {};
}

/// What vmstored does with a data folder that no node uses.
Answer<void> run_offline(Context& context,
                         const std::string& action,
                         std::vector<std::string> arguments,
                         const std::string& question) {
  VMS_TRY(const std::string program, find_program("vmstored"));
  arguments.insert(arguments.begin(), program);
  if (context.options().dry_run) {
    std::string line = "would run";
    for (const std::string& word : arguments) line += " " + word;
    context.output().done(line, {{"action", action}, {"dry_run", true}});
    return {};
  }
  VMS_CHECK(context.confirm(question));
  return hand_over(context.output(), action, arguments, {});
}

Answer<void> restore(Context& context, const MetaOptions& options) {
  // A node that runs takes no record that names what is not there.
  if (options.accept_loss && options.data.empty()) {
    return Failure::usage("--accept-loss belongs to --data: the folder of a stopped node",
                          "vmstore meta restore FILE --data DIR --accept-loss");
  }
  VMS_TRY(const meta::Backup backup, read_backup(options.file));
  const std::string what = std::to_string(backup.entries.size()) + " entries of revision " +
                           std::to_string(backup.revision);
  if (options.data.empty()) return restore_online(context, options, backup, what);
  std::vector<std::string> arguments{"--restore-meta", options.file, "--data", options.data};
  if (options.accept_loss) arguments.emplace_back("--accept-loss");
  return run_offline(context,
                     "meta restore",
                     std::move(arguments),
                     "make the catalogue of " + options.data + " from " + what + "?");
}

Answer<void> rebuild(Context& context, const MetaOptions& options) {
  std::vector<std::string> arguments{"--rebuild-meta", "--data", options.data};
  if (!options.place.empty()) arguments.insert(arguments.end(), {"--meta", options.place});
  const std::string where = options.place.empty() ? "" : " in " + options.place;
  return run_offline(context,
                     "meta rebuild",
                     std::move(arguments),
                     "rebuild the catalogue of " + options.data + where + " from its files?");
}

Answer<void> migrate(Context& context, const MetaOptions& options) {
  return run_offline(context,
                     "meta migrate",
                     {"--migrate-meta", "--data", options.data, "--meta", options.place},
                     "move the catalogue of " + options.data + " to " + options.place + "?");
}

}  // namespace

void add_meta_verbs(VerbBook& book) {
  CLI::App& meta = book.group("meta",
                              {"The catalogue: names, sizes, snapshots of all disks.",
                               "meta backup catalogue.jsonl",
                               "meta rebuild --data /var/lib/vmstore"});
  CLI::App& save = book.verb(meta,
                             "backup",
                             {"Writes the whole catalogue to a file.",
                              "meta backup catalogue.jsonl",
                              "meta backup today.jsonl --overwrite"});
  auto saved = std::make_shared<MetaOptions>();
  save.add_option("FILE", saved->file, "The file to write")->required();
  save.add_flag("--overwrite", saved->overwrite, "Replace the file");
  book.action(save, [saved](Context& context) { return backup(context, *saved); });

  CLI::App& load = book.verb(meta,
                             "restore",
                             {"Puts a backup back into the same store: into a running one without "
                              "disks, or into the folder of a stopped node that has lost its "
                              "catalogue and its own copy (else: meta rebuild).",
                              "meta restore catalogue.jsonl --data /var/lib/vmstore",
                              "meta restore catalogue.jsonl --dry-run"});
  auto loaded = std::make_shared<MetaOptions>();
  load.add_option("FILE", loaded->file, "The backup")->required();
  load.add_option("--data", loaded->data, "Folder of the stopped node");
  load.add_flag(
      "--accept-loss",
      loaded->accept_loss,
      "With --data: although keys it names are gone, or the folder has a newer catalogue");
  book.action(load, [loaded](Context& context) { return restore(context, *loaded); });

  CLI::App& mend =
      book.verb(meta,
                "rebuild",
                {"Rebuilds the catalogue from the node's own files; "
                 "the node must be stopped.",
                 "meta rebuild --data /var/lib/vmstore",
                 "meta rebuild --data /srv/vmstore --meta etcd=http://127.0.0.1:2379"});
  auto mended = std::make_shared<MetaOptions>();
  mend.add_option("--data", mended->data, "Folder of the node")->required();
  mend.add_option("--meta", mended->place, "Where it was: etcd=URL[,URL...], or the folder")
      ->type_name("PLACE");
  book.action(mend, [mended](Context& context) { return rebuild(context, *mended); });

  CLI::App& move =
      book.verb(meta,
                "migrate",
                {"Moves the catalogue of a stopped node from its folder to an etcd. "
                 "One that was cut short goes on when it is run again.",
                 "meta migrate --data /var/lib/vmstore --to etcd=http://127.0.0.1:2379",
                 "meta migrate --data /srv/vmstore --to etcd=http://[::1]:2379 -y"});
  auto moved = std::make_shared<MetaOptions>();
  move.add_option("--data", moved->data, "Folder of the node")->required();
  move.add_option("--to", moved->place, "etcd=http://HOST:PORT[,http://HOST:PORT...]")
      ->required()
      ->type_name("PLACE");
  book.action(move, [moved](Context& context) { return migrate(context, *moved); });
}

}  // namespace vmstore::cli
