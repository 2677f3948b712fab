// SPDX-License-Identifier: Apache-2.0
// The command line of vmstore-fuse.
#pragma once

#include <string>
#include <vector>

namespace vmstore::fuse {

struct Options {
  std::string endpoint;    // unix path or HOST:PORT
  std::string run_folder;  // of batch files; empty: the library finds one
  std::string tls_ca;      // files, for a node on TCP
  std::string tls_certificate;
  std::string tls_key;
  std::string mount_point;
  std::string log_file;
  bool foreground = false;
  bool allow_other = false;
  bool read_only = false;
  bool help = false;
  bool version = false;
};

/// Reads a command line without the program's name; `folder` is what relative paths are taken
/// against. Returns what is wrong, or an empty text.
[[nodiscard]] std::string parse_options(const std::vector<std::string>& arguments,
                                        const std::string& folder,
                                        Options& options);

[[nodiscard]] std::string help_text();

/// The text of mount(8)'s -o.
[[nodiscard]] std::string mount_options(const Options& options);

}  // namespace vmstore::fuse
