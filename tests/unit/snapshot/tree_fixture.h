// SPDX-License-Identifier: Apache-2.0
// A tree in memory for the tests of the index: pages by address, with counters and faults.
#pragma once

#include <coroutine>
#include <map>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/task.h"
#include "snapshot/index.h"
#include "tests/support/built_pages.h"

namespace vmstore::snapshot {

/// Runs a task that never waits. REQUIRES: it does not.
template <class T>
T run_now(Task<T> task) {
  const bool waits = task.await_suspend(std::noop_coroutine());
  VMS_ASSERT(!waits);
  return task.await_resume();
}

inline Address test_address(std::uint64_t key, std::uint64_t block) {
  return *Address::make(*KeyId::make(key), BlockIndex{block});
}

/// Pages in memory. Every page is stored encoded, so that each load also tests the codec.
class MemoryPages final : public PageSource {
 public:
  Task<Result<PagePtr>> load(Address address) override {
    ++load_count;
    ++loads_of[address];
    if (fail_at && *fail_at == address) co_return Errc::unavailable;
    const auto found = blocks_.find(address);
    if (found == blocks_.end()) co_return Errc::punched;
    VMS_CO_TRY(const Page page, decode_page(found->second));
    co_return std::make_shared<const Page>(page);
  }

  /// Places the pages of a checkpoint, as a writer would, and returns the new top.
  Address place(const BuiltPages& checkpoint) {
    if (checkpoint.empty) return {};
    if (checkpoint.pages.empty()) return checkpoint.unchanged_top;
    std::vector<Address> placed;
    for (const NewPage& fresh : checkpoint.pages) {
      Page page = fresh.page;
      for (const NewPage::Child& child : fresh.children) {
        VMS_ASSERT(child.index < placed.size());
        VMS_ASSERT(page.entries[child.entry].is_unmapped());
        page.entries[child.entry] = placed[child.index];
      }
      placed.push_back(add(page));
      labels_[placed.back()] = {fresh.level, fresh.first_lbn};
    }
    return placed.back();
  }

  Address add(const Page& page) {
    const Address address = test_address(kPageKey, next_block_++);
    std::vector<std::byte> block(kBlockBytes);
    encode_page(page, block);
    blocks_[address] = std::move(block);
    return address;
  }
  void remove(Address address) { blocks_.erase(address); }
  [[nodiscard]] std::size_t page_count() const { return blocks_.size(); }
  [[nodiscard]] std::pair<unsigned, Lbn> label(Address page) const { return labels_.at(page); }

  std::size_t load_count = 0;
  std::unordered_map<Address, std::size_t> loads_of;
  std::optional<Address> fail_at;

 private:
  static constexpr std::uint64_t kPageKey = 1000;
  std::uint64_t next_block_ = 0;
  std::unordered_map<Address, std::vector<std::byte>> blocks_;
  std::unordered_map<Address, std::pair<unsigned, Lbn>> labels_;
};

/// What a tree should map, block by block; only mapped blocks are in it.
using BlockOracle = std::map<std::uint64_t, Address>;

inline void apply(BlockOracle& oracle, const Extent& run) {
  const auto from = oracle.lower_bound(run.lbn.value);
  oracle.erase(from, oracle.lower_bound(run.lbn.value + run.blocks));
  if (run.where == Where::zero) return;
  for (std::uint64_t i = 0; i < run.blocks; ++i) {
    oracle[run.lbn.value + i] = Address::from_raw(run.place).plus(i);
  }
}

inline void apply(BlockOracle& oracle, const RunMap& overlay, std::uint64_t size_blocks) {
  overlay.visit_all([&](const Extent& run) { apply(oracle, run); });
  oracle.erase(oracle.lower_bound(size_blocks), oracle.end());
}

/// Everything a tree maps, by visiting it whole.
inline BlockOracle read_tree(PageSource& pages, Address top) {
  BlockOracle found;
  constexpr std::size_t kNoLimit = std::size_t{1} << 40;
  const auto extents = run_now(map_range(pages, top, Lbn(0), kIndexBlocks, kNoLimit));
  VMS_ASSERT(extents.has_value());
  for (const Extent& extent : *extents) {
    if (extent.where == Where::address) apply(found, extent);
  }
  return found;
}

}  // namespace vmstore::snapshot
