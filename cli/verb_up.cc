// SPDX-License-Identifier: Apache-2.0
// up, down.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <array>
#include <cstdlib>
#include <filesystem>

#include "base/units.h"
#include "cli/control.h"
#include "cli/interrupt.h"
#include "cli/run_folder.h"
#include "cli/up_service.h"
#include "cli/verbs.h"

namespace vmstore::cli {
namespace {

struct UpVerbOptions {
  std::string data;
  std::string socket_group;
  bool create = false;
  bool no_node = false;
  bool detach = false;
};
struct DownOptions {
  bool force = false;
};

std::string default_data_folder() {
  if (geteuid() == 0) return "/var/lib/vmstore";
  if (const char* home = std::getenv("XDG_DATA_HOME"); home != nullptr && *home == '/') {
    return std::string(home) + "/vmstore";
  }
  const char* home = std::getenv("HOME");
  return std::string(home == nullptr ? "" : home) + "/.local/share/vmstore";
}

/// The nodes that are elsewhere, and certificates, for programs that run in other folders.
Answer<void> take_nodes(Context& context, const UpVerbOptions& options, UpOptions& up) {
  if (options.create) return Failure::usage("--no-node makes no store: no --create");
  if (context.options().endpoint.empty()) {
    return Failure::usage("--no-node needs the nodes of the store", "-E ADDRESS:PORT,...");
  }
  const std::string here = std::filesystem::current_path().string();
  const auto absolute = [](const std::string& file) {
    return file.empty() ? file : std::filesystem::absolute(file).lexically_normal().string();
  };
  const disk::ClientTls& tls = context.options().tls;
  up.nodes = absolute_endpoint(context.options().endpoint, here);
  up.tls = {absolute(tls.ca), absolute(tls.certificate), absolute(tls.key)};
  return {};
}

Answer<UpOptions> up_options(Context& context, const UpVerbOptions& options) {
  UpOptions up;
  if (options.no_node) VMS_CHECK(take_nodes(context, options, up));
  const std::string folder = default_data_folder() + (options.no_node ? "-host" : "");
  const std::string data = options.data.empty() ? folder : options.data;
  up.data_folder = std::filesystem::absolute(data).lexically_normal().string();
  up.create = options.create;
  up.run_folder = context.run_folder();
  up.batch_folder = context.batch_folder();
  if (!options.socket_group.empty()) {
    VMS_TRY(up.socket_group, find_group(options.socket_group));
  }
  if (!options.no_node) {
    VMS_TRY(up.vmstored, find_program("vmstored"));
  }
  VMS_TRY(up.nbdkit, find_program("nbdkit", "nbdkit"));
  up.plugin = find_nbdkit_plugin();
  up.is_verbose = context.output().options().verbosity > 0;
  up.is_logging_to_file = options.detach;
  up.ready_wait = context.timeout_or(up.ready_wait);
  return up;
}

/// What tells a reader how to go on.
void announce(Output& output, const UpOptions& up) {
  const bool is_default = up.run_folder == default_run_folder();
  const std::string endpoint = up.nodes.empty() ? node_socket(up.run_folder) : up.nodes;
  json::object fields{{"action", "up"},
                      {"endpoint", endpoint},
                      {"run_dir", up.run_folder},
                      {"data", up.data_folder}};
  const std::string what = up.nodes.empty() ? up.data_folder : "disks of the store";
  std::string text = "vmstore is up: " + what + " at " + endpoint + "\n";
  if (!is_default) text += "  export VMSTORE_RUN_DIR=" + up.run_folder + "\n";
  text += "  next: vmstore create web 20G && vmstore attach web\n  stop: vmstore down";
  output.done(text, std::move(fields));
}

/// Says to the waiting parent how it went, once: an empty line is success.
void tell_parent(UniqueFd& pipe, const Answer<void>& answer) {
  if (!pipe) return;
  const std::string line = (answer ? encode_success({}) : encode_failure(answer.error())) + "\n";
  static_cast<void>(!write(pipe.get(), line.data(), line.size()));
  pipe.reset();
}

/// The detached process: a session of its own, stderr in the run folder. Never returns.
[[noreturn]] void run_detached(const UpOptions& up, UniqueFd pipe) {
  setsid();
  UpService service(up);
  Answer<void> answer = service.open();
  if (answer) {
    const std::string path = up.run_folder + "/up.log";
    const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
    // O_NONBLOCK: a pipe that somebody put there must not hang; without a reader it is an error.
    constexpr int kFlags =
        O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    const UniqueFd log(::open(path.c_str(), kFlags, 0600));
    if (!null || !log) answer = Failure::from(last_os_error(), path);
    struct stat info {};
    if (log && (::fstat(log.get(), &info) != 0 || !S_ISREG(info.st_mode))) {
      answer = Failure::make(ExitCode::usage, path, "not a regular file", "remove it");
    }
    dup2(null.get(), STDIN_FILENO);
    dup2(log ? log.get() : null.get(), STDOUT_FILENO);
    dup2(log ? log.get() : null.get(), STDERR_FILENO);
  }
  if (answer) answer = service.run([&] { tell_parent(pipe, {}); });
  tell_parent(pipe, answer);
  _exit(answer ? 0 : static_cast<int>(answer.error().exit_code));
}

Answer<void> start_detached(Context& context, const UpOptions& up) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return Failure::from(last_os_error(), "pipe");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  const pid_t pid = fork();
  if (pid < 0) return Failure::from(last_os_error(), "fork");
  if (pid == 0) {
    reader.reset();
    run_detached(up, std::move(writer));
  }
  writer.reset();
  LineBuffer lines(kControlLineBytesMax);
  std::array<char, 4096> buffer{};
  while (true) {
    const ssize_t got = read(reader.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || !lines.push({buffer.data(), static_cast<std::size_t>(got)})) break;
    if (const std::optional<std::string> line = lines.pop()) {
      VMS_TRY(const json::object fields, decode_answer(*line));
      static_cast<void>(fields);
      announce(context.output(), up);
      return {};
    }
  }
  return Failure::make(ExitCode::failed,
                       up.run_folder,
                       "the detached process ended",
                       "see " + up.run_folder + "/up.log");
}

Answer<void> up(Context& context, const UpVerbOptions& options) {
  limit_time(std::chrono::milliseconds(0));  // --timeout is how long the node may take to answer
  VMS_TRY(const UpOptions up, up_options(context, options));
  if (context.options().dry_run) {
    const std::string what = options.no_node
                                 ? "would serve disks of the store at " + up.nodes
                                 : "would start " + up.vmstored + " on " + up.data_folder + " at " +
                                       node_socket(up.run_folder);
    context.output().done(what, {{"action", "up"}, {"dry_run", true}, {"data", up.data_folder}});
    return {};
  }
  umask(077);
  if (options.detach) return start_detached(context, up);
  UpService service(up);
  VMS_CHECK(service.open());
  return service.run([&] { announce(context.output(), up); });
}

Answer<void> down(Context& context, const DownOptions& options) {
  const std::string folder = context.run_folder();
  json::object fields{{"action", "down"}, {"run_dir", folder}};
  if (context.options().dry_run) {
    VMS_TRY(
        const json::object answer,
        call_supervisor(folder, ControlRequest(), context.timeout_or(std::chrono::seconds(10))));
    const json::value* exports = answer.if_contains("exports");
    const std::size_t count =
        exports != nullptr && exports->is_array() ? exports->get_array().size() : 0;
    fields["dry_run"] = true;
    context.output().done("would stop " + std::to_string(count) + " exports and the node",
                          std::move(fields));
    return {};
  }
  ControlRequest request;
  request.op = ControlOp::stop;
  request.force = options.force;
  VMS_TRY(const json::object answer,
          call_supervisor(folder, request, context.timeout_or(std::chrono::minutes(5))));
  static_cast<void>(answer);
  context.output().done("stopped", std::move(fields));
  return {};
}

}  // namespace

void add_up_verbs(VerbBook& book) {
  CLI::App& start = book.verb("up",
                              {"Runs a store of one node on this machine, and serves its disks.",
                               "up --detach",
                               "up --data /srv/vmstore"});
  auto options = std::make_shared<UpVerbOptions>();
  start.add_option("--data",
                   options->data,
                   "Folder of the store (default: /var/lib/vmstore for root, else "
                   "~/.local/share/vmstore)");
  start.add_option("--socket-group",
                   options->socket_group,
                   "Users of this group may connect to attached disks, too (libvirt-qemu)");
  start.add_flag("--create", options->create, "Make a store although the folder is there, empty");
  start.add_flag("--no-node",
                 options->no_node,
                 "Run no node here: attach disks of the store whose nodes are at -E");
  start.add_flag("--detach", options->detach, "Return when it runs");
  book.action(start, [options](Context& context) { return up(context, *options); });

  CLI::App& stop = book.verb(
      "down", {"Stops what `up` runs, disks first, then the node.", "down", "down --force"});
  auto stopped = std::make_shared<DownOptions>();
  stop.add_flag("--force", stopped->force, "Although clients are connected");
  book.action(stop, [stopped](Context& context) { return down(context, *stopped); });
}

}  // namespace vmstore::cli
