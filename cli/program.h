// SPDX-License-Identifier: Apache-2.0
// Becoming another program: verbs that another executable carries out.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/failure.h"
#include "cli/output.h"

namespace vmstore::cli {

/// Replaces this process. Returns only the failure to do so.
[[nodiscard]] Answer<void> become_program(
    const std::vector<std::string>& argv,
    const std::vector<std::pair<std::string, std::string>>& environment);

/// Lets the program do what `action` says: becomes it, or, for programs, runs it to its end and
/// makes a Failure of what it says last, for errors are one JSON object then.
[[nodiscard]] Answer<void> hand_over(
    Output& output,
    const std::string& action,
    const std::vector<std::string>& argv,
    const std::vector<std::pair<std::string, std::string>>& environment);

}  // namespace vmstore::cli
