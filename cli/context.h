// SPDX-License-Identifier: Apache-2.0
// What every verb gets: the global options, where to print, and the store.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/output.h"
#include "cli/progress.h"
#include "disk/disk.h"

namespace vmstore::cli {

struct GlobalOptions {
  std::string endpoint;  // -E; empty: the socket of the run folder
  disk::ClientTls tls;   // --tls-ca, --tls-cert, --tls-key
  std::string run_dir;   // --run-dir; empty: the endpoint's folder if it is one, else the default
  bool dry_run = false;
  bool yes = false;
  ProgressMode progress = ProgressMode::automatic;
  std::optional<std::chrono::milliseconds> timeout;
};

/// How a Client comes to be: the real one in main, a fake one in tests.
using ConnectFunction =
    std::function<Result<std::unique_ptr<disk::Client>>(const disk::ClientConfig&)>;

class Context {
 public:
  Context(GlobalOptions options, Output& output, ConnectFunction connect)
      : options_(std::move(options)), output_(output), connect_(std::move(connect)) {}

  [[nodiscard]] const GlobalOptions& options() const noexcept { return options_; }
  [[nodiscard]] Output& output() noexcept { return output_; }
  [[nodiscard]] std::string run_folder() const;
  [[nodiscard]] std::string endpoint() const;
  /// Where batch files go: the run folder when it was chosen, else empty (each program finds the
  /// default of DESIGN 4.2).
  [[nodiscard]] std::string batch_folder() const;
  [[nodiscard]] std::chrono::milliseconds timeout_or(std::chrono::milliseconds otherwise) const {
    return options_.timeout.value_or(otherwise);
  }
  void set_program(std::string program) { program_ = std::move(program); }

  /// The store, connected at the first call.
  [[nodiscard]] Answer<disk::Client*> client();
  /// Asks on a terminal unless -y; a script that gave the flag or verb is taken at its word.
  [[nodiscard]] Answer<void> confirm(const std::string& question);

 private:
  GlobalOptions options_;
  Output& output_;
  ConnectFunction connect_;
  std::string program_ = "vmstore";
  std::unique_ptr<disk::Client> client_;
};

}  // namespace vmstore::cli
