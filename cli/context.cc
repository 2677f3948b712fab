// SPDX-License-Identifier: Apache-2.0
#include "cli/context.h"

#include <unistd.h>

#include <algorithm>
#include <iostream>

#include "base/units.h"
#include "cli/control.h"
#include "cli/run_folder.h"

namespace vmstore::cli {
namespace {

constexpr std::chrono::milliseconds kAbsentWait{50};

}  // namespace

std::string Context::run_folder() const {
  if (!options_.run_dir.empty()) return options_.run_dir;
  // `-E FOLDER/vmstored.sock` of an `up` with a folder of its own is enough to find the rest.
  const std::string first = options_.endpoint.substr(0, options_.endpoint.find(','));
  const auto slash = first.rfind('/');
  if (first.starts_with('/') && slash > 0) {
    const std::string folder = first.substr(0, slash);
    if (access(control_socket(folder).c_str(), F_OK) == 0) return folder;
  }
  return default_run_folder();
}

std::string Context::endpoint() const {
  return options_.endpoint.empty() ? node_socket(run_folder()) : options_.endpoint;
}

std::string Context::batch_folder() const {
  const std::string folder = run_folder();
  return folder == default_run_folder() ? std::string() : folder;
}

Answer<disk::Client*> Context::client() {
  if (client_) return client_.get();
  disk::ClientConfig config;
  config.endpoint = endpoint();
  config.tls = options_.tls;
  config.program = program_;
  config.run_folder = batch_folder();
  const std::vector<std::string> nodes = split_endpoints(config.endpoint);
  const bool is_tcp = std::any_of(nodes.begin(), nodes.end(), [](const std::string& node) {
    return !node.starts_with('/') && !node.starts_with("unix:");
  });
  const bool has_tls =
      !config.tls.ca.empty() && !config.tls.certificate.empty() && !config.tls.key.empty();
  if (is_tcp && !has_tls) {
    Failure failure = Failure::usage("a node on TCP is reached with a certificate only",
                                     "give --tls-ca, --tls-cert and --tls-key; an admin makes "
                                     "them with: vmstore cert issue");
    failure.object = config.endpoint;
    return failure;
  }
  // Nobody listens and no `up` is about to start a node: waiting would only be waiting.
  const bool may_come = std::any_of(nodes.begin(), nodes.end(), [](const std::string& node) {
    return !node.starts_with('/') || somebody_listens(node);
  });
  const auto patience =
      config.connect_timeout * static_cast<int>(nodes.size());  // each may be a silent one
  const bool is_absent = !may_come && !supervisor_is_there(run_folder());
  config.connect_timeout = timeout_or(is_absent ? kAbsentWait : patience);
  Result<std::unique_ptr<disk::Client>> connected = connect_(config);
  if (!connected) {
    const bool is_unreachable = exit_code_of(connected.error().code) == ExitCode::unreachable ||
                                connected.error() == Error(Errc::not_found);
    Failure failure = Failure::from(connected.error(), config.endpoint);
    if (is_unreachable) {
      failure.exit_code = ExitCode::unreachable;
      failure.what = "no vmstored answers here (" + failure.what + ")";
      failure.hint = "start one with: vmstore up --detach, or name another with -E";
    } else if (is_tcp) {
      failure.hint = "--tls-ca, --tls-cert and --tls-key name the files of `vmstore cert issue`";
    }
    return failure;
  }
  client_ = std::move(*connected);
  return client_.get();
}

Answer<void> Context::confirm(const std::string& question) {
  if (options_.yes || isatty(STDIN_FILENO) == 0 || isatty(STDERR_FILENO) == 0) return {};
  std::cerr << printable(question) << " [y/N] " << std::flush;
  std::string line;
  std::getline(std::cin, line);
  if (line == "y" || line == "Y" || line == "yes") return {};
  return Failure::make(ExitCode::failed, {}, "nothing was changed", "answer y, or give -y");
}

}  // namespace vmstore::cli
