// SPDX-License-Identifier: Apache-2.0
// The index page: 512 big addresses in 4 KiB. docs/format/page.md.
//
// Depth 4 for every disk (512^4 blocks = 256 TiB): level 0 (leaf) maps 2 MiB, level 3 is the top.
// Entry 0 = a zero subtree or an unmapped block.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"

namespace vmstore::snapshot {

inline constexpr std::size_t kPageEntries = 512;
inline constexpr unsigned kPageLevels = 4;
inline constexpr unsigned kTopLevel = kPageLevels - 1;

/// Blocks below one entry of a page of `level`: 1, 512, 512^2, 512^3.
[[nodiscard]] constexpr std::uint64_t blocks_per_entry(unsigned level) noexcept {
  return std::uint64_t{1} << (9 * level);
}
[[nodiscard]] constexpr std::uint64_t blocks_per_page(unsigned level) noexcept {
  return blocks_per_entry(level) * kPageEntries;
}
/// Slot of `lbn` in its page of `level`.
[[nodiscard]] constexpr std::size_t entry_index(Lbn lbn, unsigned level) noexcept {
  return (lbn.value >> (9 * level)) & (kPageEntries - 1);
}
/// First lbn of the page of `level` that contains `lbn`.
[[nodiscard]] constexpr Lbn page_first(Lbn lbn, unsigned level) noexcept {
  return Lbn(lbn.value & ~(blocks_per_page(level) - 1));
}

struct Page {
  std::array<Address, kPageEntries> entries{};
  [[nodiscard]] bool all_zero() const noexcept;
};
using PagePtr = std::shared_ptr<const Page>;

/// REQUIRES: `into` is 4 KiB.
void encode_page(const Page& page, MutableBytes into) noexcept;
/// `corrupt` for a wrong size, `unsupported` for an address with a slot (packed blocks).
[[nodiscard]] Result<Page> decode_page(ByteSpan block);

}  // namespace vmstore::snapshot
