// SPDX-License-Identifier: Apache-2.0
// Asks an NBD server about an export without opening it for I/O.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "cli/failure.h"

namespace vmstore::cli {

struct ExportFacts {
  std::uint64_t size_bytes = 0;
  bool read_only = false;
};

/// Connects, negotiates and asks for `name`, again and again until it answers or `deadline` passes.
/// `give_up` is asked a few times a second; a failure of it ends the waiting.
[[nodiscard]] Answer<ExportFacts> probe_export(const std::string& socket,
                                               const std::string& name,
                                               std::chrono::steady_clock::time_point deadline,
                                               const std::function<Answer<void>()>& give_up);

}  // namespace vmstore::cli
