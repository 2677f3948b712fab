// SPDX-License-Identifier: Apache-2.0
// clone: one or a thousand disks that begin as a snapshot.
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <set>

#include "cli/arguments.h"
#include "cli/interrupt.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct CloneOptions {
  std::string source;
  std::string destination;
  std::uint64_t count = 0;  // 0: not given
  std::string pattern;
};

/// Every name is checked against what is there before the first clone is made.
Answer<void> check_names_are_free(Context& context,
                                  disk::Client& client,
                                  const std::vector<std::string>& names) {
  VMS_TRY(const std::vector<disk::DiskSummary> disks, about(client.list(), context.endpoint()));
  std::set<std::string> taken;
  for (const disk::DiskSummary& disk : disks) taken.insert(disk.name);
  std::size_t count = 0;
  std::string first;
  for (const std::string& name : names) {
    if (!taken.contains(name)) continue;
    if (count++ == 0) first = name;
  }
  if (count == 0) return {};
  Failure failure = disk_failure(client, Errc::exists, first);
  if (count > 1) failure.what += " (and " + std::to_string(count - 1) + " others)";
  failure.hint = "nothing was made; choose another pattern";
  return failure;
}

std::string seconds_text(std::chrono::steady_clock::duration duration) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
  const std::string hundredths = std::to_string(ms % 1000 / 10);
  return std::to_string(ms / 1000) + "." + (hundredths.size() < 2 ? "0" : "") + hundredths + " s";
}

Answer<void> clone(Context& context, const CloneOptions& options) {
  VMS_TRY(const DiskReference source, reference_argument(options.source));
  const bool has_many = options.count > 0 || !options.pattern.empty();
  if (options.count == 0 && !options.pattern.empty()) {
    return Failure::usage("--name-pattern needs --count");
  }
  VMS_TRY(const std::string destination, disk_argument(options.destination));
  std::vector<std::string> names{destination};
  if (has_many) {
    VMS_TRY(names, clone_names(destination, options.count, options.pattern));
  }
  VMS_TRY(disk::Client * client, context.client());
  VMS_CHECK(check_names_are_free(context, *client, names));
  const std::string text = source.disk + (source.snapshot.empty() ? "" : "@" + source.snapshot);
  json::array made(names.begin(), names.end());
  json::object fields{
      {"action", "clone"}, {"source", text}, {"count", names.size()}, {"names", std::move(made)}};
  const std::string what = names.size() == 1 ? names[0] + " from " + text
                                             : std::to_string(names.size()) + " clones of " + text;
  if (context.options().dry_run) {
    if (!source.snapshot.empty()) VMS_CHECK(require_snapshot(*client, source));
    const Result<disk::DiskSummary> disk = client->details(source.disk);
    if (!disk) return disk_failure(*client, disk.error(), source.disk);
    fields["dry_run"] = true;
    context.output().done("would make " + what, std::move(fields));
    return {};
  }
  const KeepGoing until_done;
  const auto start = std::chrono::steady_clock::now();
  const Result<void> cloned = client->clone(text, names);
  const auto took = std::chrono::steady_clock::now() - start;
  if (!cloned) {
    if (cloned.error() == Error(Errc::exists)) {
      return disk_failure(*client, cloned.error(), names.size() == 1 ? names[0] : destination);
    }
    if (source.snapshot.empty()) return disk_failure(*client, cloned.error(), source.disk);
    return snapshot_failure(*client, cloned.error(), source);
  }
  fields["seconds"] = std::chrono::duration<double>(took).count();
  context.output().done(names.size() == 1
                            ? "cloned " + what + " in " + seconds_text(took) + " (0 bytes copied)"
                            : what + " in " + seconds_text(took) + " (0 bytes copied)",
                        std::move(fields));
  return {};
}

}  // namespace

void add_clone_verbs(VerbBook& book) {
  CLI::App& verb = book.verb("clone",
                             {"Makes disks that begin as a snapshot, without copying anything.",
                              "clone base/debian-12@v1 web",
                              "clone base/debian-12@v1 web --count 1000 "
                              "--name-pattern 'web-%04d'"});
  auto options = std::make_shared<CloneOptions>();
  verb.add_option(
          "SRC", options->source, "NAME@SNAP, or NAME: a snapshot of it is taken for the clones")
      ->required();
  verb.add_option("DST", options->destination, "The clone's name, or how many begin")->required();
  verb.add_option("--count", options->count, "So many: DST-1, DST-2, …")
      ->check(CLI::PositiveNumber);
  verb.add_option("--name-pattern", options->pattern, "Names with one %d or %04d in them");
  book.action(verb, [options](Context& context) { return clone(context, *options); });
}

}  // namespace vmstore::cli
