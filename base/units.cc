// SPDX-License-Identifier: Apache-2.0
#include "base/units.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <limits>

#include "base/ids.h"
#include "base/limits.h"

namespace vmstore {
namespace {

constexpr std::string_view kUnitLetters = "KMGTPE";

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}
bool is_name_start(char c) noexcept {
  return is_digit(c) || (c >= 'a' && c <= 'z');
}
bool is_name_char(char c) noexcept {
  return is_name_start(c) || c == '.' || c == '_' || c == '-';
}

/// The shift for "", "K", "KiB", "M", ...; -1 when the suffix is none of them.
int suffix_shift(std::string_view suffix) {
  if (suffix.empty() || suffix == "B") return 0;
  const auto index =
      kUnitLetters.find(suffix[0] >= 'a' ? static_cast<char>(suffix[0] - 32) : suffix[0]);
  if (index == std::string_view::npos) return -1;
  const std::string_view rest = suffix.substr(1);
  if (!rest.empty() && rest != "iB" && rest != "i") return -1;
  return 10 * (static_cast<int>(index) + 1);
}

/// Bytes of 0.`digits` of 2^shift: `digits` / 10^k * 2^shift, which is whole only if 5^k divides
/// the digits and 2^k what is left.
Result<std::uint64_t> fraction_bytes(std::string_view digits, int shift) {
  std::uint64_t numerator = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), numerator);
  if (numerator == 0) return std::uint64_t{0};
  const int places = static_cast<int>(digits.size());
  for (int i = 0; i < places; ++i) {
    if (numerator % 5 != 0) return Errc::invalid_argument;
    numerator /= 5;
  }
  if (shift < places) return Errc::invalid_argument;  // only for plain bytes: shift is 0 or >= 10
  return numerator << (shift - places);
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::int64_t>::max();
  std::uint64_t whole = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
  if (error != std::errc()) return Errc::invalid_argument;
  std::string_view rest = text.substr(static_cast<std::size_t>(end - text.data()));
  std::string_view fraction;
  if (rest.starts_with('.')) {
    const auto digits = std::find_if_not(rest.begin() + 1, rest.end(), is_digit);
    fraction = rest.substr(1, static_cast<std::size_t>(digits - rest.begin()) - 1);
    rest.remove_prefix(fraction.size() + 1);
    if (fraction.empty() || fraction.size() > 6) return Errc::invalid_argument;
  }
  const int shift = suffix_shift(rest);
  if (shift < 0 || whole > (kMax >> shift)) return Errc::invalid_argument;
  VMS_TRY(const std::uint64_t part, fraction_bytes(fraction, shift));
  const std::uint64_t bytes = (whole << shift) + part;  // below 2^63 + 2^60
  if (bytes > kMax) return Errc::invalid_argument;
  return bytes;
}

bool is_bare_number(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}

std::string format_size(std::uint64_t bytes) {
  if (bytes < limits::kKiB) return std::to_string(bytes) + " B";
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  // The borders are those of the printed number: 1023.9 KiB is 1.00 MiB, not 1024 KiB.
  for (value /= 1024; value >= 1023.5 && unit + 1 < kUnitLetters.size(); value /= 1024) ++unit;
  std::array<char, 32> text{};
  const int digits = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  std::snprintf(text.data(), text.size(), "%.*f %ciB", digits, value, kUnitLetters[unit]);
  return text.data();
}

bool is_valid_name_part(std::string_view part) noexcept {
  return !part.empty() && part.size() <= limits::kNamePartCharsMax && is_name_start(part[0]) &&
         std::all_of(part.begin(), part.end(), is_name_char) &&
         part.find("..") == std::string_view::npos;
}

bool is_valid_disk_size(std::uint64_t bytes) noexcept {
  return bytes >= limits::kDiskBytesMin && bytes <= limits::kDiskBytesMax &&
         bytes % kSectorBytes == 0;
}

bool is_valid_disk_name(std::string_view name) noexcept {
  const auto slash = name.find('/');
  if (slash == std::string_view::npos) return is_valid_name_part(name);
  return is_valid_name_part(name.substr(0, slash)) && is_valid_name_part(name.substr(slash + 1));
}

Result<DiskReference> parse_disk_reference(std::string_view text) {
  const auto at = text.find('@');
  const std::string_view disk = text.substr(0, at);
  if (!is_valid_disk_name(disk)) return Errc::invalid_argument;
  DiskReference reference{std::string(disk), {}};
  if (at != std::string_view::npos) {
    const std::string_view snapshot = text.substr(at + 1);
    if (!is_valid_name_part(snapshot)) return Errc::invalid_argument;
    reference.snapshot = snapshot;
  }
  return reference;
}

std::vector<std::string> split_endpoints(std::string_view list) {
  std::vector<std::string> endpoints;
  while (!list.empty()) {
    const auto comma = std::min(list.find(','), list.size());
    if (comma > 0) endpoints.emplace_back(list.substr(0, comma));
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return endpoints;
}

std::string absolute_endpoint(std::string_view text, std::string_view folder) {
  if (const auto comma = text.find(','); comma != std::string_view::npos) {
    const std::string first = absolute_endpoint(text.substr(0, comma), folder);
    return first + "," + absolute_endpoint(text.substr(comma + 1), folder);
  }
  constexpr std::string_view kUnixPrefix = "unix:";
  if (text.starts_with("tcp://")) return std::string(text);
  const bool is_unix = text.starts_with(kUnixPrefix);
  if (is_unix) text.remove_prefix(kUnixPrefix.size());
  const bool is_host = !is_unix && text.find('/') == std::string_view::npos &&
                       text.find(':') != std::string_view::npos;
  if (is_host || text.empty() || text.starts_with('/')) return std::string(text);
  std::string path(folder);
  path.append("/").append(text);
  return path;
}

}  // namespace vmstore
