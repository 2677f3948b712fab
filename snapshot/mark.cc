// SPDX-License-Identifier: Apache-2.0
// Visiting everything that a tree reaches.
#include "snapshot/index.h"

namespace vmstore::snapshot {
namespace {

/// A page whose entries are being visited.
struct Visited {
  Address address;
  PagePtr page;
  std::size_t next_entry = 0;
};

}  // namespace

Task<Result<void>> mark_tree(PageSource& pages,
                             Address top,
                             std::unordered_set<Address>& seen,
                             const MarkVisitor& visitor) {
  std::vector<Visited> path;  // from the top down: the level follows from the length
  path.reserve(kPageLevels);
  Address enter = top;
  for (;;) {
    if (!enter.is_unmapped() && !seen.contains(enter)) {
      const unsigned level = kTopLevel - static_cast<unsigned>(path.size());
      VMS_CO_TRY(PagePtr page, co_await pages.load(enter));
      if (visitor.on_page) visitor.on_page(enter, level);
      path.push_back({enter, std::move(page), 0});
    }
    if (path.empty()) co_return success();
    enter = Address();
    Visited& last = path.back();
    if (last.next_entry == kPageEntries) {
      seen.insert(last.address);
      path.pop_back();
      continue;
    }
    const Address entry = last.page->entries[last.next_entry++];
    if (path.size() < kPageLevels) {
      enter = entry;
    } else if (!entry.is_unmapped() && visitor.on_block) {
      visitor.on_block(entry);
    }
  }
}

}  // namespace vmstore::snapshot
