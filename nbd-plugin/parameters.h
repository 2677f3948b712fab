// SPDX-License-Identifier: Apache-2.0
// What stands on nbdkit's command line, and which export a client may open. Names no nbdkit.
//
// Invariants: an export name is checked against the grammar of disk names before anything is done
// with it; a process serves one disk, so every other name is refused, never guessed at.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "disk/disk.h"

namespace vmstore::nbd_plugin {

struct Parameters {
  std::string endpoint;    // unix path or HOST:PORT
  std::string disk;        // NAME[@SNAP]; empty: the first client's export name says it
  std::string run_folder;  // of batch files; empty: the library finds one
  disk::ClientTls tls;     // for a node on TCP
};

/// Takes one key=value. Relative paths are taken against `folder`, because nbdkit leaves it when it
/// becomes a daemon. Returns an empty text, or what is wrong.
[[nodiscard]] std::string set_parameter(Parameters& parameters,
                                        std::string_view key,
                                        std::string_view value,
                                        std::string_view folder);
/// After the last of them. Returns an empty text, or what is missing.
[[nodiscard]] std::string check_parameters(const Parameters& parameters);

/// The disk that a client asks for. `configured`: the only one served, or empty; `asked`: the
/// client's export name, whatever bytes it consists of. `invalid_argument`: no such name can exist,
/// or none is given anywhere; `not_found`: a name other than the configured one.
[[nodiscard]] Result<std::string> choose_export(std::string_view configured,
                                                std::string_view asked);

/// A client's text in a log: printable ASCII, at most 100 characters.
[[nodiscard]] std::string printable(std::string_view text);

}  // namespace vmstore::nbd_plugin
