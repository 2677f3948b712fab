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
#include "cli/meta_backup.h"
#include "cli/output_file.h"
#include "cli/process.h"
#include "cli/program.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

constexpr std::uintmax_t kBackupBytesMax = std::uintmax_t{4} << 30;

struct MetaOptions {
  std::string file;
  std::string data;
  bool overwrite = false;
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
  BackupWriter writer;
  VMS_CHECK(file.append(writer.begin(status.store, now_ns())));
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

Answer<Backup> read_backup(const std::string& path) {
  std::error_code error;
  const std::uintmax_t size = std::filesystem::file_size(path, error);
  if (error) return Failure::from(Error(errno_to_errc(error.value()), error.value()), path);
  if (size > kBackupBytesMax) {
    return Failure::make(ExitCode::integrity, path, "too large for a backup of a catalogue");
  }
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (!file) return Failure::from(Errc::io_error, path);
  Answer<Backup> parsed = parse_backup(text);
  if (parsed) return parsed;
  Failure failure = parsed.error();
  failure.object = path;
  return failure;
}

Answer<void> restore(Context& context, const MetaOptions& options) {
  VMS_TRY(const Backup backup, read_backup(options.file));
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
  const std::string what = std::to_string(backup.entries.size()) + " entries of revision " +
                           std::to_string(backup.revision);
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    context.output().done("would put back " + what, std::move(fields));
    return {};
  }
  VMS_CHECK(context.confirm("put back " + what + " into the empty catalogue?"));
  const Result<void> restored = client->import_catalogue(backup.entries);
  if (!restored && restored.error() == Error(Errc::exists)) {
    return Failure::make(ExitCode::exists,
                         context.endpoint(),
                         "the store is not empty",
                         "a backup goes only into a store without disks");
  }
  VMS_CHECK(about(Result<void>(restored), context.endpoint(), "the same restore may be repeated"));
  context.output().done("put back " + what + "     next: vmstore verify --all", std::move(fields));
  return {};
}

Answer<void> rebuild(Context& context, const MetaOptions& options) {
  if (options.data.empty()) return Failure::usage("--data names the folder of the node");
  VMS_TRY(const std::string program, find_program("vmstored"));
  if (context.options().dry_run) {
    context.output().done("would run " + program + " --rebuild-meta --data " + options.data,
                          {{"action", "meta rebuild"}, {"dry_run", true}});
    return {};
  }
  VMS_CHECK(context.confirm("rebuild the catalogue of " + options.data + " from its files?"));
  return become_program({program, "--rebuild-meta", "--data", options.data}, {});
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
                             {"Puts a backup back into the same store, which must "
                              "be empty.",
                              "meta restore catalogue.jsonl",
                              "meta restore catalogue.jsonl --dry-run"});
  auto loaded = std::make_shared<MetaOptions>();
  load.add_option("FILE", loaded->file, "The backup")->required();
  book.action(load, [loaded](Context& context) { return restore(context, *loaded); });

  CLI::App& mend = book.verb(meta,
                             "rebuild",
                             {"Rebuilds the catalogue from the node's own files; "
                              "the node must be stopped.",
                              "meta rebuild --data /var/lib/vmstore",
                              "meta rebuild --data /srv/vmstore -y"});
  auto mended = std::make_shared<MetaOptions>();
  mend.add_option("--data", mended->data, "Folder of the node")->required();
  book.action(mend, [mended](Context& context) { return rebuild(context, *mended); });
}

}  // namespace vmstore::cli
