// SPDX-License-Identifier: Apache-2.0
// Becoming another program: verbs that another executable carries out.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "cli/failure.h"

namespace vmstore::cli {

/// Replaces this process. Returns only the failure to do so.
[[nodiscard]] Answer<void> become_program(
    const std::vector<std::string>& argv,
    const std::vector<std::pair<std::string, std::string>>& environment);

}  // namespace vmstore::cli
