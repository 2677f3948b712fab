// SPDX-License-Identifier: Apache-2.0
#include "cli/mount_list.h"

#include <algorithm>

namespace vmstore::cli {
namespace {

constexpr std::size_t kOctalDigits = 3;

bool is_octal(std::string_view text) noexcept {
  return text.size() == kOctalDigits && text.find_first_not_of("01234567") == std::string::npos;
}

/// The kernel writes blank, tab, newline and backslash as \040, \011, \012 and \134.
std::string unescaped(std::string_view text) {
  std::string plain;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const std::string_view digits = text.substr(at + 1, kOctalDigits);
    if (text[at] != '\\' || !is_octal(digits)) {
      plain += text[at];
      continue;
    }
    unsigned value = 0;
    for (const char digit : digits) value = value * 8 + static_cast<unsigned>(digit - '0');
    plain += static_cast<char>(value & 0xffU);
    at += kOctalDigits;
  }
  return plain;
}

}  // namespace

std::string mount_point_of_ours(std::string_view line) {
  if (line.find(" - fuse.vmstore ") == std::string_view::npos) return {};
  for (int field = 0; field < 4; ++field) {
    line.remove_prefix(std::min(line.size(), line.find(' ')));
    line.remove_prefix(std::min<std::size_t>(line.size(), 1));
  }
  return unescaped(line.substr(0, line.find(' ')));
}

}  // namespace vmstore::cli
