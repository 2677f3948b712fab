// SPDX-License-Identifier: Apache-2.0
// Sizes and names as people write them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace vmstore {

/// "20G", "1.5T", "512", "64KiB": IEC, K = 1024. `invalid_argument` for anything else, for a value
/// over 2^63-1 and for fractions of a byte.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);
/// True when the text is digits only: `create` refuses such sizes with a hint.
[[nodiscard]] bool is_bare_number(std::string_view text) noexcept;
/// "1.50 GiB"; three significant digits, binary units.
[[nodiscard]] std::string format_size(std::uint64_t bytes);

/// 512 bytes to 256 TiB, whole sectors.
[[nodiscard]] bool is_valid_disk_size(std::uint64_t bytes) noexcept;
/// A disk name: [GROUP/]NAME with each part [a-z0-9][a-z0-9._-]{0,62} and no "..".
[[nodiscard]] bool is_valid_disk_name(std::string_view name) noexcept;
/// One part of a name, also the grammar of snapshot names.
[[nodiscard]] bool is_valid_name_part(std::string_view part) noexcept;

/// `[GROUP/]NAME[@SNAP]`, as in NBD export names and on the command line.
struct DiskReference {
  std::string disk;
  std::string snapshot;  // empty: the disk itself
};
[[nodiscard]] Result<DiskReference> parse_disk_reference(std::string_view text);

/// The parts of a list of endpoints, with commas between them; empty ones are left out.
[[nodiscard]] std::vector<std::string> split_endpoints(std::string_view list);
/// The endpoints of nodes as they were typed in `folder`, for a process that leaves it: the path of
/// a unix socket (`unix:` in front or not) becomes absolute, HOST:PORT stays.
[[nodiscard]] std::string absolute_endpoint(std::string_view text, std::string_view folder);

}  // namespace vmstore
