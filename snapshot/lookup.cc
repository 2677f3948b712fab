// SPDX-License-Identifier: Apache-2.0
// Reading the direct index: one block, or a range as extents.
#include <algorithm>
#include <array>

#include "base/assert.h"
#include "snapshot/index.h"

namespace vmstore::snapshot {
namespace {

/// Where a descent to a block ended: in a leaf, or at an empty pointer.
struct Landing {
  PagePtr leaf;           // none: everything up to `end` is zero
  std::uint64_t end = 0;  // first block beyond the leaf or the empty subtree
};

/// Descends the tree block by block in rising order and keeps the path, so that each page is
/// loaded once.
class PathReader {
 public:
  PathReader(PageSource& pages, Address top) noexcept : pages_(pages), top_(top) {}

  [[nodiscard]] Task<Result<Landing>> descend(Lbn lbn) {
    Landing landing;
    Address address = top_;
    for (unsigned level = kTopLevel;; --level) {
      landing.end = page_first(lbn, level).value + blocks_per_page(level);
      if (address.is_unmapped()) co_return landing;
      if (held_[level] != address || path_[level] == nullptr) {
        VMS_CO_TRY(path_[level], co_await pages_.load(address));
        held_[level] = address;
      }
      if (level == 0) break;
      address = path_[level]->entries[entry_index(lbn, level)];
    }
    landing.leaf = path_[0];
    co_return landing;
  }

 private:
  PageSource& pages_;
  Address top_;
  std::array<PagePtr, kPageLevels> path_;
  std::array<Address, kPageLevels> held_;
};

/// Adds `extent` to the list, joined to the last one if they are one; false when the list is full.
bool append(std::vector<Extent>& extents, const Extent& extent, std::size_t extents_max) {
  if (!extents.empty() && extent.continues(extents.back())) {
    extents.back().blocks += extent.blocks;
    return true;
  }
  if (extents.size() >= extents_max) return false;
  extents.push_back(extent);
  return true;
}

/// Adds the blocks [lbn, end) of one leaf; false when the list is full.
bool append_leaf(std::vector<Extent>& extents,
                 const Page& leaf,
                 Lbn lbn,
                 std::uint64_t end,
                 std::size_t extents_max) {
  for (std::uint64_t block = lbn.value; block < end; ++block) {
    const Address address = leaf.entries[entry_index(Lbn(block), 0)];
    const Where where = address.is_unmapped() ? Where::zero : Where::address;
    if (!append(extents, {Lbn(block), 1, where, address.raw()}, extents_max)) return false;
  }
  return true;
}

bool inside_index(Lbn lbn, std::uint64_t blocks) noexcept {
  return lbn.value < kIndexBlocks && blocks <= kIndexBlocks - lbn.value;
}

}  // namespace

Task<Result<Address>> lookup(PageSource& pages, Address top, Lbn lbn) {
  if (!inside_index(lbn, 1)) co_return Errc::invalid_argument;
  Address address = top;
  for (unsigned level = kPageLevels; level-- > 0 && !address.is_unmapped();) {
    VMS_CO_TRY(const PagePtr page, co_await pages.load(address));
    address = page->entries[entry_index(lbn, level)];
  }
  co_return address;
}

Task<Result<std::vector<Extent>>> map_range(
    PageSource& pages, Address top, Lbn lbn, std::uint64_t blocks, std::size_t extents_max) {
  VMS_ASSERT(extents_max > 0);
  if (!inside_index(lbn, blocks)) co_return Errc::invalid_argument;
  std::vector<Extent> extents;
  PathReader path(pages, top);
  const std::uint64_t end = lbn.value + blocks;
  for (std::uint64_t at = lbn.value; at < end;) {
    VMS_CO_TRY(const Landing landing, co_await path.descend(Lbn(at)));
    const std::uint64_t stop = std::min(landing.end, end);
    bool fits = false;
    if (landing.leaf == nullptr) {
      fits = append(extents, {Lbn(at), stop - at, Where::zero, 0}, extents_max);
    } else {
      fits = append_leaf(extents, *landing.leaf, Lbn(at), stop, extents_max);
    }
    if (!fits) break;
    at = stop;
  }
  co_return extents;
}

}  // namespace vmstore::snapshot
