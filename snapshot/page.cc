// SPDX-License-Identifier: Apache-2.0
#include "snapshot/page.h"

#include <algorithm>

#include "base/assert.h"

namespace vmstore::snapshot {
namespace {

constexpr std::size_t kEntryBytes = 8;
static_assert(kPageEntries * kEntryBytes == kBlockBytes);

// Compilers turn these loops into one load or store.
void store_u64(std::byte* at, std::uint64_t value) noexcept {
  for (std::size_t i = 0; i < kEntryBytes; ++i) {
    at[i] = static_cast<std::byte>((value >> (8 * i)) & 0xffU);
  }
}

std::uint64_t load_u64(const std::byte* at) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < kEntryBytes; ++i) {
    value |= std::to_integer<std::uint64_t>(at[i]) << (8 * i);
  }
  return value;
}

}  // namespace

bool Page::all_zero() const noexcept {
  return std::all_of(entries.begin(), entries.end(), [](Address a) { return a.is_unmapped(); });
}

void encode_page(const Page& page, MutableBytes into) noexcept {
  VMS_ASSERT(into.size() == kBlockBytes);
  for (std::size_t i = 0; i < kPageEntries; ++i) {
    store_u64(into.data() + i * kEntryBytes, page.entries[i].raw());
  }
}

Result<Page> decode_page(ByteSpan block) {
  if (block.size() != kBlockBytes) return Errc::corrupt;
  Page page;
  for (std::size_t i = 0; i < kPageEntries; ++i) {
    const Address address = Address::from_raw(load_u64(block.data() + i * kEntryBytes));
    page.entries[i] = address;
    if (address.is_unmapped()) continue;
    if (address.key().is_none()) return Errc::corrupt;
    if (address.slot() != 0 || !address.key().is_usable()) return Errc::unsupported;
  }
  return page;
}

}  // namespace vmstore::snapshot
