// SPDX-License-Identifier: Apache-2.0
// What `vmstore up` runs: one vmstored with an embedded store (or none: the nodes are elsewhere),
// one nbdkit per attached disk, and the control socket.
//
// Invariants: one `up` per run folder (up.lock); every child dies with this process by SIGKILL,
// which NBD clients with a reconnect delay do not notice once `up` runs again; a planned stop ends
// the exports first (they commit and release), then the node; only the first start of the node may
// make a store, and never in a folder that held one since the last planned stop.
//
// THREADS: one, the process's only one. Files are small and local, so they are written here.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/control.h"
#include "cli/exports.h"
#include "cli/supervisor.h"
#include "disk/disk.h"

namespace vmstore::cli {

struct UpOptions {
  /// Without a node of its own: the endpoints of the store's nodes, and how to be let in there. The
  /// data folder then only remembers what is attached for good.
  std::string nodes;
  disk::ClientTls tls;
  std::string data_folder;
  bool create = false;  // a store in an empty folder; where none was, one is made anyway
  std::string run_folder;
  std::optional<SocketGroup> socket_group;  // may connect to attached disks
  std::string batch_folder;  // passed on for batch files; empty: each finds the default
  std::string vmstored;      // paths of the programs
  std::string nbdkit;
  std::string plugin;
  bool is_verbose = false;
  bool is_logging_to_file = false;  // stderr is a file of ours: kept short
  std::chrono::milliseconds ready_wait{60000};
  Supervisor::Options supervision;
};

class UpService final : private Supervisor::Host {
 public:
  explicit UpService(UpOptions options);

  /// Makes the folders, takes the lock and listens. `busy` when another `up` uses the folder.
  [[nodiscard]] Answer<void> open();
  /// Runs until a signal or a `stop` request. `on_ready` is called once the node answers and what
  /// is remembered is attached again; if that fails, run() returns the failure without calling it.
  [[nodiscard]] Answer<void> run(const std::function<void()>& on_ready);

 private:
  struct ChildLog {
    UniqueFd pipe;
    std::string service;
    LineBuffer lines{std::size_t{16} << 10};
  };
  struct ControlConnection {
    UniqueFd fd;
    LineBuffer lines{kControlLineBytesMax};
    std::string to_send;
    std::optional<std::string> waits_for_node;  // a request that needs the node to be ready
    std::optional<std::string> waits_for_detach;
    bool waits_for_stop = false;
    [[nodiscard]] bool is_waiting() const noexcept {
      return waits_for_node || waits_for_detach || waits_for_stop;
    }
    SupervisorTime last_used;
  };
  enum class Phase { starting, running, stopping_exports, stopping_node, stopped };

  [[nodiscard]] Answer<pid_t> start(const ServiceSpec& spec) override;
  void signal(pid_t pid, int number) override;
  void report(std::string_view service, std::string_view what) override;

  [[nodiscard]] Answer<void> lock();
  [[nodiscard]] Answer<void> settle_data_folder();
  [[nodiscard]] ServiceSpec node_spec() const;
  [[nodiscard]] ServiceSpec export_spec(const Export& exported) const;
  [[nodiscard]] Answer<void> attach_remembered();

  void wait_for_events(SupervisorTime now);
  void on_signals(SupervisorTime now);
  void on_child_output(ChildLog& log);
  void begin_stop(SupervisorTime now);
  void advance(SupervisorTime now);
  [[nodiscard]] Answer<void> check_ready(SupervisorTime now);
  [[nodiscard]] Answer<void> begin_serving();
  [[nodiscard]] std::string last_lines(const std::string& service) const;

  void accept_connections(SupervisorTime now);
  void on_connection(ControlConnection& connection, SupervisorTime now);
  [[nodiscard]] std::optional<std::string> handle(ControlConnection& connection,
                                                  std::string_view line,
                                                  SupervisorTime now);
  [[nodiscard]] Answer<json::object> attach(const ControlRequest& request, SupervisorTime now);
  [[nodiscard]] Answer<void> check_free(const std::string& reference, bool force) const;
  [[nodiscard]] json::object describe_all() const;
  [[nodiscard]] json::object describe(const Export& exported, std::string_view sockets) const;
  void finish_detaching();
  void answer_waiting(SupervisorTime now);

  UpOptions options_;
  Supervisor supervisor_;
  Exports exports_;
  UniqueFd lock_;
  UniqueFd control_;
  UniqueFd signals_;
  bool node_was_started_ = false;
  Phase phase_ = Phase::starting;
  SupervisorTime ready_deadline_;
  std::list<ChildLog> logs_;
  std::list<ControlConnection> connections_;
  std::map<std::string, std::deque<std::string>> last_lines_;
  std::set<std::string> detaching_;
};

}  // namespace vmstore::cli
