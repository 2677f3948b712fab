// SPDX-License-Identifier: Apache-2.0
#include "cli/up_service.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <iostream>

#include "cli/output.h"
#include "cli/run_folder.h"

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;

constexpr std::string_view kNode = "vmstored";
constexpr std::size_t kLastLines = 5;
constexpr off_t kLogBytesMax = off_t{8} << 20;
constexpr milliseconds kReadyPoll{50};
constexpr milliseconds kLongestSleep{1000};

/// Names of services: the node's, or an export's; no disk is called "nbd:…".
std::string service_of(std::string_view reference) {
  return "nbd:" + std::string(reference);
}

SupervisorTime steady_now() {
  return std::chrono::steady_clock::now();
}

}  // namespace

UpService::UpService(UpOptions options)
    : options_(std::move(options)),
      supervisor_(*this, options_.supervision),
      exports_(options_.run_folder, options_.data_folder, options_.socket_group) {}

Answer<void> UpService::open() {
  VMS_CHECK(make_run_folder(options_.run_folder, options_.socket_group));
  VMS_CHECK(lock());
  VMS_CHECK(settle_data_folder());
  VMS_TRY(control_,
          about(listen_unix(control_socket(options_.run_folder), 16),
                control_socket(options_.run_folder)));
  sigset_t handled;
  sigemptyset(&handled);
  for (const int number : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&handled, number);
  sigprocmask(SIG_BLOCK, &handled, nullptr);
  signals_ = UniqueFd(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals_) return Failure::from(last_os_error(), "signalfd");
  return {};
}

Answer<void> UpService::settle_data_folder() {
  std::error_code error;
  if (!options_.nodes.empty()) {
    std::filesystem::create_directories(options_.data_folder, error);
    if (!error) return {};
  }
  // An empty folder may be a file system that is not mounted: only who asks gets a store there.
  if (!error && !std::filesystem::exists(options_.data_folder, error) && !error) {
    options_.create = true;
    // The folder itself is the node's to make: it knows whether there was one.
    const auto parent = std::filesystem::path(options_.data_folder).parent_path();
    std::filesystem::create_directories(parent, error);
  }
  if (error) {
    return Failure::from(Error(errno_to_errc(error.value()), error.value()),
                         options_.data_folder,
                         "choose another folder with --data");
  }
  return {};
}

Answer<void> UpService::lock() {
  const std::string path = options_.run_folder + "/up.lock";
  lock_ = UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!lock_) return Failure::from(last_os_error(), path);
  if (flock(lock_.get(), LOCK_EX | LOCK_NB) == 0) return {};
  if (errno != EWOULDBLOCK) return Failure::from(last_os_error(), path);
  return Failure::make(ExitCode::busy,
                       options_.run_folder,
                       "another `vmstore up` runs here",
                       "use it as it is, stop it with: vmstore down, or choose another --run-dir");
}

ServiceSpec UpService::node_spec() const {
  ServiceSpec spec;
  spec.name = kNode;
  spec.process.argv = {options_.vmstored,
                       "--data",
                       options_.data_folder,
                       "--listen",
                       "unix:" + node_socket(options_.run_folder),
                       "--store-file",
                       store_file(options_.run_folder),
                       "--log-level",
                       options_.is_verbose ? "info" : "warning"};
  return spec;
}

ServiceSpec UpService::export_spec(const Export& exported) const {
  ServiceSpec spec;
  spec.name = service_of(exported.attachment.reference);
  spec.process.argv = {options_.nbdkit, "-f"};
  if (exported.attachment.read_only) spec.process.argv.emplace_back("-r");
  spec.process.argv.push_back(options_.plugin);
  const bool has_node = options_.nodes.empty();
  spec.process.argv.push_back("endpoint=" +
                              (has_node ? node_socket(options_.run_folder) : options_.nodes));
  spec.process.argv.push_back("disk=" + exported.attachment.reference);
  for (const auto& [key, file] : {std::pair("tls-ca=", options_.tls.ca),
                                  std::pair("tls-cert=", options_.tls.certificate),
                                  std::pair("tls-key=", options_.tls.key)}) {
    if (!has_node && !file.empty()) spec.process.argv.push_back(key + file);
  }
  if (!options_.batch_folder.empty()) {
    spec.process.argv.push_back("run-dir=" + options_.batch_folder);
  }
  spec.process.listen_fd = exported.listener.get();
  spec.stop_signal = SIGUSR1;  // the plugin commits, releases the disk and kills itself
  return spec;
}

Answer<pid_t> UpService::start(const ServiceSpec& spec) {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return Failure::from(last_os_error(), spec.name);
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  fcntl(reader.get(), F_SETFL, O_NONBLOCK);
  ProcessSpec process = spec.process;
  if (spec.name == kNode) {
    unlink(node_socket(options_.run_folder).c_str());
    const bool is_first = !std::exchange(node_was_started_, true);
    if (is_first && options_.create) process.argv.emplace_back("--create");
  }
  // What is worth a line is said on stderr.
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  process.stdout_fd = null.get();
  process.stderr_fd = writer.get();
  VMS_TRY(const pid_t pid, start_process(process));
  ChildLog& log = logs_.emplace_back();
  log.pipe = std::move(reader);
  log.service = spec.name;
  return pid;
}

void UpService::signal(pid_t pid, int number) {
  kill(pid, number);
}

void UpService::report(std::string_view service, std::string_view what) {
  struct stat info {};
  if (options_.is_logging_to_file && fstat(STDERR_FILENO, &info) == 0 &&
      info.st_size > kLogBytesMax) {
    static_cast<void>(!ftruncate(STDERR_FILENO, 0));
  }
  std::cerr << "vmstore up: " << service << ": " << printable(what) << "\n" << std::flush;
}

Answer<void> UpService::run(const std::function<void()>& on_ready) {
  ready_deadline_ = steady_now() + options_.ready_wait;
  if (options_.nodes.empty()) {
    supervisor_.add(node_spec(), steady_now());
  } else {
    VMS_CHECK(begin_serving());
  }
  bool told = false;
  while (phase_ != Phase::stopped) {
    wait_for_events(steady_now());
    supervisor_.on_time(steady_now());
    if (phase_ == Phase::starting) VMS_CHECK(check_ready(steady_now()));
    if (phase_ == Phase::running && !std::exchange(told, true)) on_ready();
    finish_detaching();
    advance(steady_now());
    answer_waiting(steady_now());
  }
  return {};
}

Answer<void> UpService::check_ready(SupervisorTime now) {
  const Service* node = supervisor_.find(std::string(kNode));
  const bool has_ended = node == nullptr || !node->last_end.empty();
  if (has_ended || now >= ready_deadline_) {
    Failure failure =
        Failure::make(ExitCode::failed,
                      options_.data_folder,
                      has_ended ? "vmstored " + (node == nullptr ? "" : node->last_end)
                                : "vmstored does not answer",
                      "read what it said above, or run it by hand");
    if (has_ended && node != nullptr) {
      failure.what = "vmstored ended with " + node->last_end;
      for (const ExitCode code : {ExitCode::usage, ExitCode::busy}) {
        if (node->last_code != static_cast<int>(code)) continue;
        failure.exit_code = code;
        failure.code = exit_code_name(code);
      }
    }
    if (const std::string said = last_lines(std::string(kNode)); !said.empty()) {
      failure.what += ": " + said;
    }
    if (node != nullptr && node->pid > 0) kill(node->pid, SIGKILL);
    return failure;
  }
  if (!somebody_listens(node_socket(options_.run_folder))) return {};
  return begin_serving();
}

Answer<void> UpService::begin_serving() {
  phase_ = Phase::running;
  return attach_remembered();
}

Answer<void> UpService::attach_remembered() {
  VMS_TRY(const std::vector<Attachment> remembered, exports_.remembered());
  VMS_CHECK(exports_.restore(remembered));
  for (const auto& [reference, exported] : exports_.all()) {
    supervisor_.add(export_spec(exported), steady_now());
  }
  return {};
}

void UpService::wait_for_events(SupervisorTime now) {
  std::vector<pollfd> fds{{signals_.get(), POLLIN, 0}, {control_.get(), POLLIN, 0}};
  for (const ChildLog& log : logs_) fds.push_back({log.pipe.get(), POLLIN, 0});
  for (const ControlConnection& connection : connections_) {
    const int events =
        (connection.is_waiting() ? 0 : POLLIN) | (connection.to_send.empty() ? 0 : POLLOUT);
    fds.push_back({connection.fd.get(), static_cast<short>(events), 0});
  }
  milliseconds sleep = phase_ == Phase::starting ? kReadyPoll : kLongestSleep;
  if (const std::optional<SupervisorTime> next = supervisor_.next_time()) {
    const auto until = std::chrono::ceil<milliseconds>(*next - now);
    sleep = std::clamp(until, milliseconds(0), sleep);
  }
  if (poll(fds.data(), fds.size(), static_cast<int>(sleep.count())) < 0) return;
  const SupervisorTime after = steady_now();
  std::size_t at = 2;
  const std::size_t connections_at = at + logs_.size();
  for (ChildLog& log : logs_) {
    if (fds[at++].revents != 0) on_child_output(log);
  }
  logs_.remove_if([](const ChildLog& log) { return !log.pipe; });
  at = connections_at;
  for (ControlConnection& connection : connections_) {
    if (fds[at++].revents != 0) on_connection(connection, after);
    if (after - connection.last_used > kControlIdleMax && !connection.is_waiting()) {
      connection.fd.reset();
    }
  }
  connections_.remove_if([](const ControlConnection& c) { return !c.fd; });
  if (fds[0].revents != 0) on_signals(after);
  if (fds[1].revents != 0) accept_connections(after);
}

void UpService::on_signals(SupervisorTime now) {
  signalfd_siginfo info{};
  while (read(signals_.get(), &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    if (info.ssi_signo == SIGCHLD) {
      int status = 0;
      while (true) {
        const pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid <= 0) break;
        // Its last words first: they are the reason that is reported.
        for (ChildLog& log : logs_) on_child_output(log);
        supervisor_.on_exit(pid, status, now);
      }
    } else if (phase_ == Phase::starting || phase_ == Phase::running) {
      begin_stop(now);
    } else {
      // Asked twice: what is acknowledged lies in the batch files, so nothing is lost by haste.
      report("stop", "asked twice, ends at once");
      for (const auto& [name, service] : supervisor_.services()) {
        if (service.pid > 0) kill(service.pid, SIGKILL);
      }
    }
  }
}

void UpService::on_child_output(ChildLog& log) {
  std::array<char, 4096> buffer{};
  while (log.pipe) {
    const ssize_t got = read(log.pipe.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || !log.lines.push({buffer.data(), static_cast<std::size_t>(got)})) {
      log.pipe.reset();
    }
    while (std::optional<std::string> line = log.lines.pop()) {
      std::deque<std::string>& last = last_lines_[log.service];
      last.push_back(*line);
      if (last.size() > kLastLines) last.pop_front();
      report(log.service, *line);
    }
  }
}

std::string UpService::last_lines(const std::string& service) const {
  const auto found = last_lines_.find(service);
  if (found == last_lines_.end() || found->second.empty()) return {};
  // A hint about --help may stand behind what went wrong.
  const auto error =
      std::find_if(found->second.rbegin(), found->second.rend(), [](const std::string& line) {
        return line.find("error") != std::string::npos;
      });
  return error == found->second.rend() ? found->second.back() : *error;
}

void UpService::begin_stop(SupervisorTime now) {
  phase_ = Phase::stopping_exports;
  for (const auto& [reference, exported] : exports_.all()) {
    supervisor_.stop(service_of(reference), now);
  }
}

void UpService::advance(SupervisorTime now) {
  const auto& services = supervisor_.services();
  if (phase_ == Phase::stopping_exports) {
    const bool only_node = std::all_of(
        services.begin(), services.end(), [](const auto& entry) { return entry.first == kNode; });
    if (!only_node) return;
    phase_ = Phase::stopping_node;
    supervisor_.stop(std::string(kNode), now);
  }
  if (phase_ == Phase::stopping_node && services.empty()) {
    if (Answer<void> closed = exports_.remove_all(); !closed) {
      report("stop", closed.error().object + ": " + closed.error().what);
    }
    unlink(node_socket(options_.run_folder).c_str());
    unlink(control_socket(options_.run_folder).c_str());
    unlink(store_file(options_.run_folder).c_str());
    phase_ = Phase::stopped;
  }
}

}  // namespace vmstore::cli
