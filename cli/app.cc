// SPDX-License-Identifier: Apache-2.0
#include "cli/app.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "cli/arguments.h"
#include "cli/interrupt.h"
#include "cli/nearest.h"
#include "cli/verbs.h"

#ifndef VMSTORE_VERSION
#define VMSTORE_VERSION "0"
#endif

namespace vmstore::cli {
namespace {

/// As typed, before they are checked.
struct RawOptions {
  std::string endpoint;
  disk::ClientTls tls;
  std::string run_dir;
  std::string format;
  bool json = false;
  bool no_header = false;
  bool bytes = false;
  std::string columns;
  std::string sort;
  bool dry_run = false;
  bool yes = false;
  bool quiet = false;
  int verbosity = 0;
  std::string progress;
  std::string color;
  std::string timeout;
};

/// Help that begins with the examples, which a verb keeps as its footer.
class ExamplesFirst : public CLI::Formatter {
 public:
  std::string make_help(const CLI::App* app,
                        std::string name,
                        CLI::AppFormatMode mode) const override {
    std::string examples = mode == CLI::AppFormatMode::Normal ? app->get_footer() : std::string();
    if (!examples.empty()) examples = "Examples:\n" + examples + "\n";
    return examples + CLI::Formatter::make_help(app, name, mode);
  }
  std::string make_footer(const CLI::App* /*app*/) const override { return {}; }
};

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

void add_global_options(CLI::App& app, RawOptions& raw) {
  app.add_option("-E,--endpoint",
                 raw.endpoint,
                 "The node: path of a unix socket or ADDRESS:PORT; or several nodes of the store, "
                 "with commas (environment: VMSTORE_ENDPOINT)");
  app.add_option("--tls-ca",
                 raw.tls.ca,
                 "For a node at ADDRESS:PORT: certificate of the store's authority "
                 "(environment: VMSTORE_TLS_CA)");
  app.add_option("--tls-cert", raw.tls.certificate, "Our certificate (VMSTORE_TLS_CERT)");
  app.add_option("--tls-key", raw.tls.key, "Its key (VMSTORE_TLS_KEY)");
  app.add_option("--run-dir",
                 raw.run_dir,
                 "Folder of the sockets of `vmstore up` (environment: VMSTORE_RUN_DIR)");
  app.add_option("--format", raw.format, "table, json, jsonl or csv");
  app.add_flag("--json", raw.json, "The same as --format json");
  app.add_flag("-H,--no-header", raw.no_header, "No header, tabs between the columns");
  app.add_flag("--bytes", raw.bytes, "Sizes as exact numbers of bytes");
  app.add_option("-o,--columns", raw.columns, "Columns to show: COL,COL");
  app.add_option("-s,--sort", raw.sort, "Column to sort by; -COL sorts downwards");
  app.add_flag("-n,--dry-run", raw.dry_run, "Say what would happen, change nothing");
  app.add_flag("-y,--yes", raw.yes, "Do not ask");
  app.add_flag("-q,--quiet", raw.quiet, "Print only data and errors");
  app.add_flag("-v,--verbose", raw.verbosity, "Say more");
  app.add_option("--progress", raw.progress, "auto, bar, plain, json or none");
  app.add_option("--color", raw.color, "auto, always or never (and NO_COLOR)");
  app.add_option("--timeout", raw.timeout, "Give up after so long: 500ms, 10s, 2m");
}

Answer<Format> parse_format(const RawOptions& raw) {
  const std::string& name = raw.format;
  if (name.empty()) return raw.json ? Format::json : Format::table;
  if (name == "table") return Format::table;
  if (name == "json") return Format::json;
  if (name == "jsonl") return Format::jsonl;
  if (name == "csv") return Format::csv;
  return Failure::usage("no format '" + name + "'", "--format table, json, jsonl or csv");
}

Answer<ProgressMode> parse_progress(const std::string& name) {
  if (name.empty() || name == "auto") return ProgressMode::automatic;
  if (name == "bar") return ProgressMode::bar;
  if (name == "plain") return ProgressMode::plain;
  if (name == "json") return ProgressMode::json;
  if (name == "none") return ProgressMode::none;
  return Failure::usage("no progress '" + name + "'", "--progress auto, bar, plain, json or none");
}

Answer<bool> use_color(const std::string& wanted, int fd) {
  if (wanted == "always") return true;
  if (wanted == "never") return false;
  if (!wanted.empty() && wanted != "auto") {
    return Failure::usage("no color '" + wanted + "'", "--color auto, always or never");
  }
  return isatty(fd) != 0 && environment("NO_COLOR").empty() && environment("TERM") != "dumb";
}

Answer<OutputOptions> output_options(const RawOptions& raw) {
  OutputOptions options;
  VMS_TRY(options.format, parse_format(raw));
  options.no_header = raw.no_header;
  options.exact_bytes = raw.bytes;
  options.quiet = raw.quiet;
  options.verbosity = static_cast<unsigned>(raw.verbosity);
  VMS_TRY(options.color_out, use_color(raw.color, STDOUT_FILENO));
  VMS_TRY(options.color_err, use_color(raw.color, STDERR_FILENO));
  for (std::string_view rest = raw.columns; !rest.empty();) {
    const std::string_view name = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), name.size() + 1));
    if (!name.empty()) options.columns.emplace_back(name);
  }
  options.sort = raw.sort;
  return options;
}

Answer<GlobalOptions> global_options(const RawOptions& raw) {
  GlobalOptions options;
  options.endpoint = raw.endpoint.empty() ? environment("VMSTORE_ENDPOINT") : raw.endpoint;
  const auto or_environment = [](const std::string& given, const char* name) {
    return given.empty() ? environment(name) : given;
  };
  options.tls.ca = or_environment(raw.tls.ca, "VMSTORE_TLS_CA");
  options.tls.certificate = or_environment(raw.tls.certificate, "VMSTORE_TLS_CERT");
  options.tls.key = or_environment(raw.tls.key, "VMSTORE_TLS_KEY");
  options.run_dir = raw.run_dir.empty() ? environment("VMSTORE_RUN_DIR") : raw.run_dir;
  while (options.run_dir.size() > 1 && options.run_dir.ends_with('/')) options.run_dir.pop_back();
  if (!options.run_dir.empty() && !options.run_dir.starts_with('/')) {
    return Failure::usage("the run folder is not an absolute path: '" + options.run_dir + "'");
  }
  options.dry_run = raw.dry_run;
  options.yes = raw.yes;
  VMS_TRY(options.progress, parse_progress(raw.progress));
  if (!raw.timeout.empty()) {
    VMS_TRY(const std::chrono::milliseconds timeout, duration_argument(raw.timeout));
    options.timeout = timeout;
  }
  return options;
}

/// The deepest verb that was reached, for telling what would have been right there.
const CLI::App& deepest(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  return *at;
}

std::vector<std::string> words_of(const CLI::App& app, bool options) {
  std::vector<std::string> words;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (!options) words.push_back(verb->get_name());
  }
  for (const CLI::App* at = &app; options && at != nullptr; at = at->get_parent()) {
    for (const CLI::Option* option : at->get_options()) {
      for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
    }
  }
  return words;
}

std::string path_of(const CLI::App& app) {
  const std::string above = app.get_parent() == nullptr ? "" : path_of(*app.get_parent());
  return above.empty() ? app.get_name() : above + " " + app.get_name();
}

Failure parse_failure(const CLI::App& root,
                      const CLI::ParseError& error,
                      const std::vector<std::string>& arguments) {
  const CLI::App& at = deepest(root);
  Failure failure = Failure::usage(error.what(), path_of(at) + " --help");
  failure.code = "usage";
  const auto* extras = dynamic_cast<const CLI::ExtrasError*>(&error);
  const bool lacks_verb = dynamic_cast<const CLI::RequiredError*>(&error) != nullptr &&
                          !at.get_subcommands([](const CLI::App*) { return true; }).empty();
  if (extras == nullptr && !lacks_verb) return failure;
  for (const std::string& word : arguments) {
    const bool is_option = word.starts_with("--");
    const std::string name = word.substr(0, word.find('='));
    const std::vector<std::string> known = words_of(at, is_option);
    if (word.starts_with('-') && !is_option) continue;
    if (failure.what.find(name) == std::string::npos && !lacks_verb) continue;
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    if (!is_option && word == at.get_name()) continue;
    const std::optional<std::string> close = nearest(name, known);
    failure.what = (is_option       ? "no option '"
                    : known.empty() ? "one word too many: '"
                                    : "no verb '") +
                   name + "'" + (close ? " (closest: " + *close + ")" : "");
    return failure;
  }
  return failure;
}

int finish(Output& output, const Failure& failure) {
  output.failure(failure);
  return static_cast<int>(failure.exit_code);
}

/// Options as they were typed are needed to print a failure of parsing the way it was asked for.
OutputOptions options_for_failures(const std::vector<std::string>& arguments) {
  OutputOptions options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& word = arguments[i];
    const std::string next = i + 1 < arguments.size() ? arguments[i + 1] : std::string();
    const bool is_format = word == "--format" && next.starts_with("json");
    if (word == "--json" || word.starts_with("--format=json") || is_format) {
      options.format = Format::json;
    }
  }
  return options;
}

int run_chosen(const VerbBook& book,
               const RawOptions& raw,
               const ConnectFunction& connect,
               std::ostream& out,
               std::ostream& err,
               Output& early) {
  Answer<OutputOptions> shown = output_options(raw);
  if (!shown) return finish(early, shown.error());
  Output output(std::move(*shown), out, err);
  Answer<GlobalOptions> options = global_options(raw);
  if (!options) return finish(output, options.error());
  if (options->timeout) limit_time(*options->timeout);
  Context context(std::move(*options), output, connect);
  context.set_program("vmstore " + book.chosen_name());
  const Answer<void> answer = book.chosen()(context);
  out.flush();
  if (!answer) return finish(output, answer.error());
  if (!out) return finish(output, Failure::from(Errc::io_error, "standard output"));
  return 0;
}

}  // namespace

CLI::App& VerbBook::verb(CLI::App& parent, const std::string& name, const Text& text) {
  CLI::App* added = parent.add_subcommand(name, text.about);
  added->fallthrough();
  added->footer("  vmstore " + text.example + "\n  vmstore " + text.other_example + "\n");
  return *added;
}

CLI::App& VerbBook::group(const std::string& name, const Text& text) {
  CLI::App& added = verb(root_, name, text);
  added.require_subcommand(1);
  return added;
}

void VerbBook::action(CLI::App& verb, Action action) {
  const std::string name = path_of(verb).substr(std::string_view("vmstore ").size());
  verbs_[name] = &verb;
  verb.callback([this, name, action = std::move(action)] {
    chosen_ = action;
    chosen_name_ = name;
  });
}

std::vector<std::string> VerbBook::names() const {
  std::vector<std::string> names;
  for (const auto& [name, verb] : verbs_) names.push_back(name);
  return names;
}

void add_all_verbs(VerbBook& book) {
  add_up_verbs(book);
  add_disk_verbs(book);
  add_snapshot_verbs(book);
  add_clone_verbs(book);
  add_trash_verbs(book);
  add_import_verbs(book);
  add_export_verbs(book);
  add_attach_verbs(book);
  add_nbd_verbs(book);
  add_node_verbs(book);
  add_space_verbs(book);
  add_verify_verbs(book);
  add_owner_verbs(book);
  add_meta_verbs(book);
  add_cert_verbs(book);
  add_exec_verbs(book);
  add_bench_verbs(book);
  add_explaining_verbs(book);
  add_completion_verbs(book);
}

std::vector<std::string> all_verb_names() {
  CLI::App root("", "vmstore");
  VerbBook book(root);
  add_all_verbs(book);
  return book.names();
}

int run_command(std::vector<std::string> arguments,
                const ConnectFunction& connect,
                std::ostream& out,
                std::ostream& err) {
  CLI::App root("The disks of virtual machines, on a ring of ordinary machines.", "vmstore");
  root.formatter(std::make_shared<ExamplesFirst>());
  root.set_version_flag("--version", std::string("vmstore ") + VMSTORE_VERSION);
  root.footer(
      "  vmstore up --detach && vmstore create web 20G && vmstore attach web\n"
      "  vmstore import debian-12.qcow2 base/debian-12 && "
      "vmstore clone base/debian-12 web --count 8\n");
  root.require_subcommand(1);
  RawOptions raw;
  add_global_options(root, raw);
  VerbBook book(root);
  add_all_verbs(book);
  Output early(options_for_failures(arguments), out, err);
  try {
    // CLI11 takes the words from the back.
    std::vector<std::string> words(arguments.rbegin(), arguments.rend());
    root.parse(words);
  } catch (const CLI::CallForHelp&) {
    const CLI::App& asked = deepest(root);  // help() adds its name to what stands before it
    out << asked.help(asked.get_parent() == nullptr ? "" : path_of(*asked.get_parent()));
    return 0;
  } catch (const CLI::CallForAllHelp&) {
    out << root.help("", CLI::AppFormatMode::All);
    return 0;
  } catch (const CLI::CallForVersion& version) {
    out << version.what() << "\n";
    return 0;
  } catch (const CLI::ParseError& error) {
    return finish(early, parse_failure(root, error, arguments));
  }
  return run_chosen(book, raw, connect, out, err, early);
}

}  // namespace vmstore::cli
