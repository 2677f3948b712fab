// SPDX-License-Identifier: Apache-2.0
// What a certificate of a store says of its holder: the store, a role, the disks, a name for
// people. The text that carries it is a URI among the certificate's names;
// docs/format/certificate.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/ids.h"
#include "base/result.h"

namespace vmstore::net {

/// What the holder is there for; storaged/rights.h says what that lets it do.
enum class Role : std::uint8_t { node, admin, client, read_only };

inline constexpr std::array kRoles{Role::node, Role::admin, Role::client, Role::read_only};

/// "node", "admin", "client", "read-only".
[[nodiscard]] std::string_view role_name(Role role) noexcept;
[[nodiscard]] std::optional<Role> parse_role(std::string_view text) noexcept;

struct CertificateName {
  StoreId store;
  Role role = Role::read_only;
  std::vector<std::string> disks;  // of a client: patterns of names; none: every disk
  std::string person;  // the common name: for people and logs; of a node its record names it, too
};

inline constexpr std::size_t kDiskPatternsMax = 16;
inline constexpr std::size_t kDiskPatternCharsMax = 128;

/// Whether a certificate may have the pattern: characters of disk names, and '*' for any of them,
/// '/' too.
[[nodiscard]] bool is_disk_pattern(std::string_view pattern) noexcept;
/// Whether a certificate with such patterns is for a disk of this name.
[[nodiscard]] bool is_for_disk(const std::vector<std::string>& patterns,
                               std::string_view name) noexcept;

/// "vmstore://<store id>/role/<role>", of a client for some disks with "?disks=<pattern>,…" behind.
[[nodiscard]] std::string certificate_uri(const CertificateName& name);
/// Exactly that text, nothing in front, behind or left out: a part that this version does not know
/// may be what narrows the certificate. `invalid_argument` otherwise. Leaves `person` empty.
[[nodiscard]] Result<CertificateName> parse_certificate_uri(std::string_view uri);

}  // namespace vmstore::net
