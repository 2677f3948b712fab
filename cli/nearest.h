// SPDX-License-Identifier: Apache-2.0
// Which known word somebody probably meant.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vmstore::cli {

/// Number of single-character insertions, deletions, replacements and swaps of neighbours that turn
/// `a` into `b`.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

/// The closest of `known`, first one at a tie. Empty when nothing is close: more than half of the
/// longer word would have to change, and neither begins with the other.
[[nodiscard]] std::optional<std::string> nearest(std::string_view wanted,
                                                 const std::vector<std::string>& known);

}  // namespace vmstore::cli
