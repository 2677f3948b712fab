// SPDX-License-Identifier: Apache-2.0
// The direct index: look-up, extents, checkpoint, mark and diff over trees of pages.
//
// Invariants: a look-up reads at most 4 pages whatever was snapshotted or cloned (I5); a zero
// subtree is one empty pointer; a page is never changed once written (copy on write).
#pragma once

#include <cstdint>
#include <functional>
#include <unordered_set>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "snapshot/page.h"
#include "snapshot/run_map.h"

namespace vmstore::snapshot {

/// Where pages come from: a cache over the log, the node's files, a test's map.
class PageSource {
 public:
  virtual ~PageSource() = default;
  /// The page at `address`. Errors are passed on: a page that cannot be read is never empty (I9).
  [[nodiscard]] virtual Task<Result<PagePtr>> load(Address address) = 0;
};

/// Blocks below a top page: the largest disk. Calls below answer `invalid_argument` beyond it.
inline constexpr std::uint64_t kIndexBlocks = blocks_per_page(kTopLevel);

/// Address of the block at `lbn` in the tree below `top`; unmapped = zeros.
[[nodiscard]] Task<Result<Address>> lookup(PageSource& pages, Address top, Lbn lbn);

/// The mapping of [lbn, lbn+blocks) as maximal extents (where = address or zero), at most
/// `extents_max`; always makes progress; skips zero subtrees without visiting their blocks. The
/// sum of the lengths may be shorter than asked when the limit is reached. REQUIRES: extents_max >
/// 0.
[[nodiscard]] Task<Result<std::vector<Extent>>> map_range(
    PageSource& pages, Address top, Lbn lbn, std::uint64_t blocks, std::size_t extents_max);

/// A page made by a checkpoint. Pages are numbered from 0 in the order in which they are made;
/// children that are new are named by their numbers until the writer has given them addresses.
struct NewPage {
  std::uint8_t level = 0;
  Lbn first_lbn;
  Page page;  // entries of new children are 0 until placed
  struct Child {
    std::uint16_t entry = 0;
    std::uint32_t index = 0;  // the child's number, always lower than this page's own
  };
  std::vector<Child> children;
};

/// Takes the pages of a checkpoint one by one while the rest is still being built, so that memory
/// does not follow the number of pages.
class PageSink {
 public:
  virtual ~PageSink() = default;
  /// The next page: children before parents, the last one is the new top. May wait until there is
  /// room; an error ends the checkpoint.
  [[nodiscard]] virtual Task<Result<void>> add(NewPage page) = 0;
};

/// What a checkpoint made, beside its pages.
struct Checkpoint {
  std::uint32_t page_count = 0;  // the last one is the new top
  bool empty = false;            // the whole disk reads as zeros: the new top is address 0
  Address unchanged_top;         // set when nothing changed; there are no pages then
  // What of the old tree the new one does not use; complete only with `collect_replaced`.
  std::vector<Address> replaced_pages;
  // Old mappings that are gone, in order of lbn. The same address may still be mapped at another
  // lbn (equal blocks of a batch collapse, clones share), so this alone frees nothing.
  std::vector<Extent> replaced_blocks;
};

/// Applies `overlay` (address and zero runs only; asserts on slots) to the tree below `top` and
/// gives the new pages to `sink`. `size_blocks` cuts: nothing at or beyond it stays mapped. Memory:
/// one path, a copy of the overlay's runs (so that the overlay is not touched after the first
/// suspension) and the list of what is replaced.
/// A zero run over a whole subtree drops it and reports its pages and blocks only when
/// `collect_replaced` (which must then visit them).
[[nodiscard]] Task<Result<Checkpoint>> build_checkpoint(PageSource& pages,
                                                        PageSink& sink,
                                                        Address top,
                                                        const RunMap& overlay,
                                                        std::uint64_t size_blocks,
                                                        bool collect_replaced);

/// Visits every distinct page reachable from `top`, once over all successful calls that share
/// `seen`, and every entry of each. `on_page` gets the page's own address before its entries. A
/// page enters `seen` when everything below it was visited: after an error `seen` claims nothing
/// that was not marked (I9).
struct MarkVisitor {
  std::function<void(Address page, unsigned level)> on_page;
  std::function<void(Address block)> on_block;
};
[[nodiscard]] Task<Result<void>> mark_tree(PageSource& pages,
                                           Address top,
                                           std::unordered_set<Address>& seen,
                                           const MarkVisitor& visitor);

/// Ranges of [lbn, lbn+blocks) whose mapping differs between two trees, as maximal extents of how
/// `b` maps them, in order; equal subtrees are skipped unread.
[[nodiscard]] Task<Result<std::vector<Extent>>> diff_trees(
    PageSource& pages, Address a, Address b, Lbn lbn, std::uint64_t blocks);

}  // namespace vmstore::snapshot
