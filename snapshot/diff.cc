// SPDX-License-Identifier: Apache-2.0
// What differs between two trees. Cost follows the difference: equal pointers are equal subtrees.
#include <algorithm>

#include "snapshot/index.h"

namespace vmstore::snapshot {
namespace {

/// Walks both trees together over [begin, end).
class Differ {
 public:
  Differ(PageSource& pages, std::uint64_t begin, std::uint64_t end) noexcept
      : pages_(pages), begin_(begin), end_(end) {}

  [[nodiscard]] Task<Result<void>> walk(unsigned level, Address a, Address b, Lbn first) {
    VMS_CO_TRY(const PagePtr page_a, co_await load(a));
    VMS_CO_TRY(const PagePtr page_b, co_await load(b));
    for (std::size_t i = 0; i < kPageEntries; ++i) {
      const Address entry_a = page_a->entries[i];
      const Address entry_b = page_b->entries[i];
      const Lbn lbn(first.value + i * blocks_per_entry(level));
      if (entry_a == entry_b || lbn.value >= end_) continue;
      if (lbn.value + blocks_per_entry(level) <= begin_) continue;
      if (level == 0) {
        append(lbn, entry_b);
      } else {
        VMS_CO_CHECK(co_await walk(level - 1, entry_a, entry_b, lbn));
      }
    }
    co_return success();
  }

  [[nodiscard]] std::vector<Extent> take() noexcept { return std::move(extents_); }

 private:
  [[nodiscard]] Task<Result<PagePtr>> load(Address address) {
    if (address.is_unmapped()) co_return zeros_;
    co_return co_await pages_.load(address);
  }

  void append(Lbn lbn, Address address) {
    const Where where = address.is_unmapped() ? Where::zero : Where::address;
    const Extent extent{lbn, 1, where, address.raw()};
    if (!extents_.empty() && extent.continues(extents_.back())) {
      ++extents_.back().blocks;
    } else {
      extents_.push_back(extent);
    }
  }

  PageSource& pages_;
  std::uint64_t begin_;
  std::uint64_t end_;
  PagePtr zeros_ = std::make_shared<const Page>();
  std::vector<Extent> extents_;
};

}  // namespace

Task<Result<std::vector<Extent>>> diff_trees(
    PageSource& pages, Address a, Address b, Lbn lbn, std::uint64_t blocks) {
  if (lbn.value >= kIndexBlocks || blocks > kIndexBlocks - lbn.value) {
    co_return Errc::invalid_argument;
  }
  Differ differ(pages, lbn.value, lbn.value + blocks);
  if (a != b) VMS_CO_CHECK(co_await differ.walk(kTopLevel, a, b, Lbn(0)));
  co_return differ.take();
}

}  // namespace vmstore::snapshot
