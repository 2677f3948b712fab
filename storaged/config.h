// SPDX-License-Identifier: Apache-2.0
// Config: what a vmstored is told by flags, environment (VMSTORE_*), file and defaults, in that
// order of precedence.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/log.h"
#include "base/result.h"
#include "net/tls_context.h"

namespace vmstore::storaged {

struct Config {
  std::string data_folder;
  /// unix:PATH, ADDRESS:PORT (with TLS), or several, with commas; when none is given,
  /// <data folder>/vmstored.sock, or empty if this run serves nothing.
  std::string listen;
  std::string announce;  // ADDRESS:PORT; empty: the first TCP address of `listen`
  std::optional<std::string> zone;
  std::optional<std::uint32_t> weight;
  net::TlsFiles tls;
  std::string http;  // unix:PATH or loopback HOST:PORT; empty: none
  std::string etcd;  // where the catalogue is: http://HOST:PORT[,...]; empty: in the data folder
  std::uint64_t journal_bytes = 0;
  std::uint64_t reserve_bytes = 0;
  LogLevel log_level = LogLevel::info;
  bool create = false;
  StoreId join;  // become a node of this store, if the folder is none yet; none: do not
  /// Outside of the data folder; see storaged/remembered_store.h. Empty: nothing is remembered.
  std::string store_file;
  bool rebuild_meta = false;
  bool migrate_meta = false;
  std::string restore_meta;  // a backup; empty: none is to be restored
  bool accept_loss = false;  // with it
  bool check_only = false;
  bool allow_without_punching = false;
  bool collect_by_itself = true;
};

/// The path behind "unix:".
[[nodiscard]] std::optional<std::string> unix_path(std::string_view endpoint);
/// The parts of `listen`.
[[nodiscard]] std::vector<std::string> listen_endpoints(std::string_view listen);

/// Where the other nodes of the store are to reach this one: empty when nothing that it listens at
/// can be reached from elsewhere under the same address and port.
[[nodiscard]] std::string announced_address(const Config& config);

/// A program that goes on has a config; one that ends (an error, --help, --version) has the exit
/// code, and has said why.
struct Parsed {
  std::optional<Config> config;
  int exit_code = 0;
};
[[nodiscard]] Parsed parse_config(int argc, const char* const* argv);

/// Values of one file over `config`. The error text names file, line and the nearest known name.
struct FileProblem {
  std::string text;
};
[[nodiscard]] std::optional<FileProblem> apply_config_text(std::string_view text,
                                                           const std::string& file,
                                                           Config& config);

}  // namespace vmstore::storaged
