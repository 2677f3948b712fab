// SPDX-License-Identifier: Apache-2.0
// How many descriptors the process may have, and how many of them key files may take.
//
// A key has three files, one of them open twice. The soft limit of a Debian service or shell is
// 1024, the hard one half a million.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmstore::storaged {

/// Raises the soft limit to the hard one. Returns what it is now.
std::uint64_t raise_descriptor_limit() noexcept;

/// How many keys may stay open when the process may have `descriptors`: what is left for the
/// journal, the catalogue and connections is a quarter, and keys that wait for their sync may be as
/// many again.
[[nodiscard]] std::size_t open_keys_for(std::uint64_t descriptors) noexcept;

}  // namespace vmstore::storaged
