// SPDX-License-Identifier: Apache-2.0
// vmstored: the storage node.
#include <csignal>
#include <iostream>
#include <memory>
#include <string>

#include "base/fault.h"
#include "base/log.h"
#include "base/posix_files.h"
#include "base/random.h"
#include "storaged/config.h"
#include "storaged/daemon.h"
#include "storaged/move_meta.h"
#include "storaged/rebuild_meta.h"

namespace {

constexpr int kExitFailed = 1;
constexpr int kExitUsage = 2;
constexpr int kExitNotFound = 3;
constexpr int kExitExists = 4;
constexpr int kExitBusy = 5;
constexpr int kExitIntegrity = 8;

/// The exit codes of `vmstore`, which passes them on.
int exit_code(const vmstore::Result<void>& outcome) {
  if (outcome) return 0;
  std::cerr << "vmstored: " << to_string(outcome.error()) << "\n";
  if (outcome.error() == vmstore::Errc::busy) return kExitBusy;
  if (outcome.error() == vmstore::Errc::foreign_store) return kExitUsage;
  return kExitFailed;
}

/// Of a verb that works on a folder and ends: what it did not find, or would have replaced, or
/// cannot believe, tells more than that it failed.
int exit_code_of_verb(const vmstore::Result<void>& outcome) {
  const int code = exit_code(outcome);
  if (code != kExitFailed) return code;
  if (outcome.error() == vmstore::Errc::not_found) return kExitNotFound;
  if (outcome.error() == vmstore::Errc::exists) return kExitExists;
  const bool is_damaged =
      outcome.error() == vmstore::Errc::corrupt || outcome.error() == vmstore::Errc::unknown;
  return is_damaged ? kExitIntegrity : code;
}

/// The folder of a verb, which must be there.
vmstore::Result<std::unique_ptr<vmstore::PosixFiles>> open_folder(
    const vmstore::storaged::Config& config) {
  auto files = vmstore::PosixFiles::open_folder(config.data_folder);
  if (!files) {
    VMS_LOG(error,
            "node",
            config.data_folder << ": " << to_string(files.error())
                               << "; --data names the folder of the stopped node");
  }
  return files;
}

vmstore::Result<void> rebuild(const vmstore::storaged::Config& config) {
  VMS_TRY(const auto files, open_folder(config));
  auto random = vmstore::Random::from_system();
  if (!config.etcd.empty()) {
    return vmstore::storaged::rebuild_in_etcd(*files, config.etcd, random);
  }
  return vmstore::storaged::rebuild_catalogue(*files, config.data_folder, random);
}

vmstore::Result<void> migrate(const vmstore::storaged::Config& config) {
  VMS_TRY(const auto files, open_folder(config));
  auto random = vmstore::Random::from_system();
  return vmstore::storaged::migrate_catalogue(*files, config.data_folder, config.etcd, random);
}

vmstore::Result<void> restore(const vmstore::storaged::Config& config) {
  VMS_TRY(const auto files, open_folder(config));
  auto random = vmstore::Random::from_system();
  return vmstore::storaged::restore_catalogue(
      *files, config.data_folder, config.restore_meta, config.accept_loss, random);
}

/// The signals that end the service; blocked in every thread, taken by main alone.
sigset_t ending_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

int serve(vmstore::storaged::Config config) {
  const sigset_t signals = ending_signals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  vmstore::storaged::Daemon daemon(std::move(config));
  const auto started = daemon.start();
  if (!started) return exit_code(started);
  std::cout << "listening on " << daemon.endpoint() << "\n";  // tidy-allow: cout for supervisors
  if (!daemon.http().empty()) {
    std::cout << "http on " << daemon.http() << "\n";  // tidy-allow: cout for supervisors
  }
  std::cout << "ready\n" << std::flush;  // tidy-allow: cout for supervisors
  int signal = 0;
  sigwait(&signals, &signal);
  VMS_LOG(info, "node", "ending by signal " << signal);
  // A second signal ends the process at once.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  daemon.stop();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  vmstore::fault::install_from_environment();
  std::signal(SIGPIPE, SIG_IGN);
  auto parsed = vmstore::storaged::parse_config(argc, argv);
  if (!parsed.config) return parsed.exit_code;
  vmstore::set_log_level(parsed.config->log_level);
  if (parsed.config->check_only) return 0;
  if (parsed.config->rebuild_meta) return exit_code_of_verb(rebuild(*parsed.config));
  if (parsed.config->migrate_meta) return exit_code_of_verb(migrate(*parsed.config));
  if (!parsed.config->restore_meta.empty()) return exit_code_of_verb(restore(*parsed.config));
  return serve(std::move(*parsed.config));
}
