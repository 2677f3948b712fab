// SPDX-License-Identifier: Apache-2.0
#include "net/certificate_name.h"

#include <algorithm>

namespace vmstore::net {
namespace {

constexpr std::string_view kScheme = "vmstore://";
constexpr std::string_view kRolePart = "/role/";
constexpr std::string_view kDisksPart = "?disks=";
constexpr std::size_t kIdChars = 32;

/// The part before the first `mark`, which is taken off with it.
std::string_view take_until(std::string_view& text, char mark) {
  const std::string_view part = text.substr(0, text.find(mark));
  text.remove_prefix(std::min(part.size() + 1, text.size()));
  return part;
}

Result<std::vector<std::string>> parse_disks(std::string_view text) {
  if (text.empty() || text.back() == ',') return Errc::invalid_argument;
  std::vector<std::string> disks;
  while (!text.empty()) {
    const std::string_view pattern = take_until(text, ',');
    if (!is_disk_pattern(pattern) || disks.size() == kDiskPatternsMax) {
      return Errc::invalid_argument;
    }
    disks.emplace_back(pattern);
  }
  return disks;
}

/// '*' is any text. Takes at most as many steps as both have characters, multiplied.
bool matches(std::string_view pattern, std::string_view name) noexcept {
  std::size_t at = 0;
  std::size_t star = std::string_view::npos;  // the last one, and what it stands for so far
  std::size_t taken = 0;
  for (std::size_t i = 0; i < name.size();) {
    if (at < pattern.size() && pattern[at] == '*') {
      star = at++;
      taken = i;
    } else if (at < pattern.size() && pattern[at] == name[i]) {
      ++at;
      ++i;
    } else if (star != std::string_view::npos) {
      at = star + 1;
      i = ++taken;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', at) == std::string_view::npos;
}

}  // namespace

bool is_disk_pattern(std::string_view pattern) noexcept {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' ||
           c == '/' || c == '*';
  };
  return !pattern.empty() && pattern.size() <= kDiskPatternCharsMax &&
         std::all_of(pattern.begin(), pattern.end(), good);
}

bool is_for_disk(const std::vector<std::string>& patterns, std::string_view name) noexcept {
  return patterns.empty() ||
         std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
           return matches(pattern, name);
         });
}

std::string_view role_name(Role role) noexcept {
  switch (role) {
    case Role::node:
      return "node";
    case Role::admin:
      return "admin";
    case Role::client:
      return "client";
    case Role::read_only:
      return "read-only";
  }
  return "";
}

std::optional<Role> parse_role(std::string_view text) noexcept {
  for (const Role role : kRoles) {
    if (role_name(role) == text) return role;
  }
  return std::nullopt;
}

std::string certificate_uri(const CertificateName& name) {
  std::string uri(kScheme);
  uri += name.store.hex();
  uri += kRolePart;
  uri += role_name(name.role);
  for (std::size_t i = 0; i < name.disks.size(); ++i) {
    uri += i == 0 ? kDisksPart : std::string_view(",");
    uri += name.disks[i];
  }
  return uri;
}

Result<CertificateName> parse_certificate_uri(std::string_view uri) {
  if (!uri.starts_with(kScheme)) return Errc::invalid_argument;
  uri.remove_prefix(kScheme.size());
  if (uri.size() < kIdChars) return Errc::invalid_argument;
  const auto store = StoreId::parse(uri.substr(0, kIdChars));
  uri.remove_prefix(kIdChars);
  if (!store || store->is_none() || !uri.starts_with(kRolePart)) return Errc::invalid_argument;
  uri.remove_prefix(kRolePart.size());
  const std::string_view role_text = uri.substr(0, uri.find('?'));
  const auto role = parse_role(role_text);
  if (!role) return Errc::invalid_argument;
  uri.remove_prefix(role_text.size());
  CertificateName name;
  name.store = *store;
  name.role = *role;
  if (uri.empty()) return name;
  // Narrowed; whoever is not a client would not be.
  if (name.role != Role::client || !uri.starts_with(kDisksPart)) return Errc::invalid_argument;
  VMS_TRY(name.disks, parse_disks(uri.substr(kDisksPart.size())));
  return name;
}

}  // namespace vmstore::net
