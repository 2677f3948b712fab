// SPDX-License-Identifier: Apache-2.0
// attach, detach, nbd uri, snippet, ls.
#include <sys/stat.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <optional>

#include "cli/arguments.h"
#include "cli/control.h"
#include "cli/interrupt.h"
#include "cli/nbd_probe.h"
#include "cli/nearest.h"
#include "cli/run_folder.h"
#include "cli/snippets.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kAnswerWait{30000};
constexpr milliseconds kStopWait{90000};  // a planned stop commits first
constexpr std::uint64_t kStartsMax = 3;   // of one nbdkit, before it has answered

struct AttachOptions {
  std::string reference;
  bool persistent = false;
  bool read_only = false;
  bool force = false;
  bool libvirt = false;
  bool qemu = false;
};

Answer<json::object> ask(Context& context, const ControlRequest& request, milliseconds wait) {
  return call_supervisor(context.run_folder(), request, context.timeout_or(wait));
}

/// The exports of the supervisor, each an object.
Answer<std::vector<json::object>> exports_of(Context& context) {
  VMS_TRY(const json::object answer, ask(context, ControlRequest(), milliseconds(10000)));
  std::vector<json::object> exports;
  const json::value* list = answer.if_contains("exports");
  if (list == nullptr || !list->is_array()) return exports;
  for (const json::value& entry : list->get_array()) {
    if (entry.is_object()) exports.push_back(entry.get_object());
  }
  return exports;
}

Answer<json::object> export_of(Context& context, const std::string& reference) {
  VMS_TRY(const std::vector<json::object> exports, exports_of(context));
  std::vector<std::string> names;
  for (const json::object& exported : exports) {
    const std::string name = json_text(exported, "name").value_or("");
    if (name == reference) return exported;
    names.push_back(name);
  }
  const std::optional<std::string> close = nearest(reference, names);
  return Failure::make(ExitCode::not_found,
                       reference,
                       "is not attached" + (close ? " (closest: \"" + *close + "\")" : ""),
                       "vmstore attach " + reference);
}

/// Fails when the export's server does not get anywhere.
Answer<void> check_export(Context& context, const std::string& reference) {
  if (interrupted()) return interruption();
  VMS_TRY(const json::object exported, export_of(context, reference));
  if (json_count(exported, "starts").value_or(0) <= kStartsMax) return {};
  const std::string said = json_text(exported, "last_line").value_or("");
  return Failure::make(ExitCode::failed,
                       reference,
                       "nbdkit ended again and again, with " +
                           json_text(exported, "last_end").value_or("no status") +
                           (said.empty() ? "" : ": " + said),
                       "see what `vmstore up` printed");
}

Answer<void> check_exists(Context& context, const DiskReference& reference) {
  VMS_TRY(disk::Client * client, context.client());
  if (!reference.snapshot.empty()) return require_snapshot(*client, reference);
  const Result<disk::DiskSummary> disk = client->details(reference.disk);
  if (!disk) return disk_failure(*client, disk.error(), reference.disk);
  return {};
}

Answer<ExportFacts> wait_for_export(Context& context,
                                    const std::string& name,
                                    const std::string& socket) {
  const auto deadline = std::chrono::steady_clock::now() + context.timeout_or(kAnswerWait);
  return probe_export(socket, name, deadline, [&] { return check_export(context, name); });
}

Answer<void> attach(Context& context, const AttachOptions& options) {
  VMS_TRY(const DiskReference reference, reference_argument(options.reference));
  VMS_CHECK(check_exists(context, reference));
  const std::string& name = options.reference;
  json::object fields{{"action", "attach"}, {"name", name}};
  if (context.options().dry_run) {
    const std::string socket = nbd_socket(context.run_folder(), name);
    fields["dry_run"] = true;
    fields["uri"] = nbd_uri(name, socket);
    context.output().done("would attach " + name + " as " + nbd_uri(name, socket),
                          std::move(fields));
    return {};
  }
  ControlRequest request;
  request.op = ControlOp::attach;
  request.reference = name;
  request.persistent = options.persistent;
  request.read_only = options.read_only;
  const KeepGoing until_done;
  VMS_TRY(const json::object attached, ask(context, request, milliseconds(10000)));
  const std::string socket = json_text(attached, "socket").value_or("");
  const Answer<ExportFacts> facts = wait_for_export(context, name, socket);
  if (!facts) {
    // What was not attached before is not left half attached.
    if (json_flag(attached, "is_new")) {
      request.op = ControlOp::detach;
      request.force = true;
      const Answer<json::object> undone = ask(context, request, kStopWait);
      if (!undone) context.output().note(name + ": stays attached: " + undone.error().what);
    }
    return facts.error();
  }
  const std::string uri = json_text(attached, "uri").value_or(nbd_uri(name, socket));
  fields["uri"] = uri;
  fields["socket"] = socket;
  fields["size"] = facts->size_bytes;
  fields["read_only"] = facts->read_only;
  fields["persistent"] = options.persistent || json_flag(attached, "persistent");
  if (context.output().for_programs()) {
    context.output().done({}, std::move(fields));
  } else {
    context.output().text("uri", uri);
  }
  return {};
}

Answer<void> detach(Context& context, const AttachOptions& options) {
  VMS_TRY(const DiskReference reference, reference_argument(options.reference));
  const std::string& name = options.reference;
  VMS_TRY(const json::object exported, export_of(context, name));
  json::object fields{{"action", "detach"}, {"name", name}};
  if (context.options().dry_run) {
    fields["dry_run"] = true;
    fields["clients"] = json_count(exported, "clients").value_or(0);
    context.output().done("would detach " + name, std::move(fields));
    return {};
  }
  ControlRequest request;
  request.op = ControlOp::detach;
  request.reference = name;
  request.force = options.force;
  VMS_TRY(const json::object answer, ask(context, request, kStopWait));
  static_cast<void>(answer);
  context.output().done("detached " + name, std::move(fields));
  return {};
}

Answer<void> print_uri(Context& context, const AttachOptions& options) {
  VMS_TRY(const DiskReference reference, reference_argument(options.reference));
  VMS_TRY(const json::object exported, export_of(context, options.reference));
  context.output().text("uri", json_text(exported, "uri").value_or(""));
  return {};
}

Answer<void> print_snippet(Context& context, const AttachOptions& options) {
  if (options.libvirt && options.qemu) return Failure::usage("either --qemu or --libvirt");
  VMS_TRY(const DiskReference reference, reference_argument(options.reference));
  VMS_TRY(const json::object exported, export_of(context, options.reference));
  const SnippetOptions snippet{options.reference,
                               json_text(exported, "socket").value_or(""),
                               json_flag(exported, "read_only")};
  struct stat info {};
  const std::string socket = json_text(exported, "socket").value_or("");
  if (options.libvirt && stat(socket.c_str(), &info) == 0 && (info.st_mode & S_IWGRP) == 0) {
    context.output().note(
        "only this user may connect, and libvirt runs QEMU as another: vmstore up "
        "--socket-group libvirt-qemu");
  }
  context.output().text("snippet",
                        options.libvirt ? libvirt_snippet(snippet) : qemu_snippet(snippet));
  return {};
}

Answer<void> list(Context& context) {
  VMS_TRY(const std::vector<json::object> exports, exports_of(context));
  Table table{"exports",
              {{"name"},
               {"state"},
               {"clients", CellKind::count},
               {"read_only", CellKind::yes_no},
               {"persistent", CellKind::yes_no},
               {"uri"},
               {"socket", CellKind::text, false},
               {"pid", CellKind::count, false},
               {"starts", CellKind::count, false},
               {"last_end", CellKind::text, false}},
              {}};
  for (const json::object& exported : exports) {
    const auto text = [&](std::string_view name) {
      const std::optional<std::string> value = json_text(exported, name);
      return value && !value->empty() ? Cell(*value) : Cell();
    };
    const auto count = [&](std::string_view name) {
      const std::optional<std::uint64_t> value = json_count(exported, name);
      return value ? Cell(*value) : Cell();
    };
    table.rows.push_back({text("name"),
                          text("state"),
                          count("clients"),
                          json_flag(exported, "read_only"),
                          json_flag(exported, "persistent"),
                          text("uri"),
                          text("socket"),
                          count("pid"),
                          count("starts"),
                          text("last_end")});
  }
  return context.output().print({std::move(table)});
}

}  // namespace

void add_attach_verbs(VerbBook& book) {
  CLI::App& verb = book.verb("attach",
                             {"Serves a disk over NBD and prints its URI.",
                              "attach web",
                              "attach web@monday --persistent"});
  auto options = std::make_shared<AttachOptions>();
  verb.add_option("NAME", options->reference, "[GROUP/]NAME[@SNAP]; snapshots are read-only")
      ->required();
  verb.add_flag("--persistent", options->persistent, "Again at every `vmstore up`");
  verb.add_flag("-r,--read-only", options->read_only, "Refuse writes");
  book.action(verb, [options](Context& context) { return attach(context, *options); });

  CLI::App& undo = book.verb("detach",
                             {"Ends the serving of a disk; everything is committed first.",
                              "detach web",
                              "detach web --force"});
  auto detached = std::make_shared<AttachOptions>();
  undo.add_option("NAME", detached->reference, "[GROUP/]NAME[@SNAP]")->required();
  undo.add_flag("--force", detached->force, "Although a client is connected");
  book.action(undo, [detached](Context& context) { return detach(context, *detached); });
}

void add_nbd_verbs(VerbBook& book) {
  CLI::App& nbd =
      book.group("nbd", {"What is served over NBD.", "nbd ls", "nbd snippet web --libvirt"});
  auto options = std::make_shared<AttachOptions>();
  CLI::App& uri = book.verb(
      nbd, "uri", {"Prints the URI of an attached disk.", "nbd uri web", "nbd uri web@monday"});
  uri.add_option("NAME", options->reference, "[GROUP/]NAME[@SNAP]")->required();
  book.action(uri, [options](Context& context) { return print_uri(context, *options); });

  CLI::App& snippet = book.verb(nbd,
                                "snippet",
                                {"Prints what to paste into QEMU or libvirt.",
                                 "nbd snippet web",
                                 "nbd snippet web --libvirt"});
  snippet.add_option("NAME", options->reference, "[GROUP/]NAME[@SNAP]")->required();
  snippet.add_flag("--qemu", options->qemu, "For QEMU's command line (default)");
  snippet.add_flag("--libvirt", options->libvirt, "For libvirt's XML");
  book.action(snippet, [options](Context& context) { return print_snippet(context, *options); });

  CLI::App& ls =
      book.verb(nbd, "ls", {"Lists what is attached on this host.", "nbd ls", "nbd ls --json"});
  book.action(ls, [](Context& context) { return list(context); });
}

}  // namespace vmstore::cli
