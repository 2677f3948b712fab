// SPDX-License-Identifier: Apache-2.0
#include "cli/nearest.h"

#include <algorithm>

namespace vmstore::cli {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  // Three rows of the table are enough: a swap looks back two.
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> above(b.size() + 1);
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) above[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t replace = above[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      row[j] = std::min({replace, above[j] + 1, row[j - 1] + 1});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        row[j] = std::min(row[j], before[j - 2] + 1);
      }
    }
    std::swap(before, above);
    std::swap(above, row);
  }
  return above[b.size()];
}

std::optional<std::string> nearest(std::string_view wanted, const std::vector<std::string>& known) {
  constexpr std::size_t kFar = 1000;
  std::size_t best = kFar;
  std::optional<std::string> found;
  for (const std::string& word : known) {
    const std::size_t longer = std::max(wanted.size(), word.size());
    const std::size_t distance = edit_distance(wanted, word);
    const bool prefix = wanted.size() >= 2 && word.size() >= 2 &&
                        (word.starts_with(wanted) || wanted.starts_with(word));
    const bool close = distance * 2 <= longer;
    // What shares its whole beginning is as good a guess as one with two mistakes.
    const std::size_t rank = prefix ? std::min<std::size_t>(distance, 2) : distance;
    if ((close || prefix) && rank < best) {
      best = rank;
      found = word;
    }
  }
  return found;
}

}  // namespace vmstore::cli
