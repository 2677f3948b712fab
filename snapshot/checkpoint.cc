// SPDX-License-Identifier: Apache-2.0
// Building the pages of a checkpoint: an overlay of runs applied to a tree, copy on write.
//
// The runs are walked once in order together with the tree. `position_` is the first block not yet
// applied and `next_` the first run that reaches beyond it; every function below applies the runs
// inside its page and leaves `position_` at or after the page's end, or at the end of the runs.
#include <algorithm>

#include "base/assert.h"
#include "snapshot/index.h"

namespace vmstore::snapshot {
namespace {

constexpr unsigned kLeafLevel = 0;

std::uint64_t end_of(const Extent& extent) noexcept {
  return extent.lbn.value + extent.blocks;
}

/// What a subtree is after the checkpoint: an old page or nothing, or the new page `index`.
struct Subtree {
  Address address;
  std::optional<std::uint32_t> index;
};

class Builder {
 public:
  Builder(PageSource& pages,
          PageSink& sink,
          const RunMap& overlay,
          std::uint64_t size_blocks,
          bool collect)
      : pages_(pages), sink_(sink), collect_(collect) {
    flatten(overlay, size_blocks);
  }

  [[nodiscard]] Task<Result<Checkpoint>> run(Address top) {
    VMS_CO_TRY(const Subtree built, co_await build(kTopLevel, top, Lbn(0)));
    VMS_ASSERT(!built.index || *built.index + 1 == result_.page_count);
    VMS_ASSERT(built.index || result_.page_count == 0);
    result_.empty = !built.index && built.address.is_unmapped();
    if (!built.index && built.address == top) result_.unchanged_top = top;
    co_return std::move(result_);
  }

 private:
  void flatten(const RunMap& overlay, std::uint64_t size_blocks);
  [[nodiscard]] Task<Result<Subtree>> build(unsigned level, Address old, Lbn first);
  [[nodiscard]] Task<Result<Subtree>> build_child(unsigned level, Address old, Lbn first);
  [[nodiscard]] Task<Result<Subtree>> build_leaf(PagePtr old_page, Address old, Lbn first);
  [[nodiscard]] Task<Result<void>> drop(unsigned level, Address old, Lbn first);
  bool apply_run(Page& page, const Extent& run, std::uint64_t end);
  void replace_block(Lbn lbn, Address old);
  void advance(std::uint64_t position);
  [[nodiscard]] const Extent* run_before(std::uint64_t end) const;
  [[nodiscard]] Task<Result<Subtree>> finish(NewPage page, Address old);

  PageSource& pages_;
  PageSink& sink_;
  bool collect_;
  std::vector<Extent> runs_;
  std::size_t next_ = 0;
  std::uint64_t position_ = 0;
  Checkpoint result_;
};

/// Copies the runs, cut at the size; what is at or beyond the size is one zero run.
void Builder::flatten(const RunMap& overlay, std::uint64_t size_blocks) {
  runs_.reserve(overlay.run_count() + 1);
  const auto copy = [&](const Extent& run) {
    VMS_ASSERT(run.where != Where::slot);
    VMS_ASSERT(end_of(run) <= kIndexBlocks);
    if (run.lbn.value >= size_blocks) return;
    runs_.push_back(run.part(run.lbn, std::min(run.blocks, size_blocks - run.lbn.value)));
  };
  overlay.visit_all(copy);
  if (size_blocks < kIndexBlocks) {
    runs_.push_back({Lbn(size_blocks), kIndexBlocks - size_blocks, Where::zero, 0});
  }
}

/// The run that covers `position_` or begins after it, if any of that is before `end`.
const Extent* Builder::run_before(std::uint64_t end) const {
  if (position_ >= end || next_ == runs_.size() || runs_[next_].lbn.value >= end) return nullptr;
  return &runs_[next_];
}

void Builder::advance(std::uint64_t position) {
  position_ = position;
  while (next_ < runs_.size() && end_of(runs_[next_]) <= position_) ++next_;
}

void Builder::replace_block(Lbn lbn, Address old) {
  const Extent block{lbn, 1, Where::address, old.raw()};
  std::vector<Extent>& list = result_.replaced_blocks;
  if (!list.empty() && block.continues(list.back())) {
    ++list.back().blocks;
  } else {
    list.push_back(block);
  }
}

/// Applies the part of `run` in [position_, end) to a leaf; true when an entry changed.
bool Builder::apply_run(Page& page, const Extent& run, std::uint64_t end) {
  const std::uint64_t from = std::max(run.lbn.value, position_);
  const std::uint64_t to = std::min(end_of(run), end);
  bool changed = false;
  for (std::uint64_t block = from; block < to; ++block) {
    Address& entry = page.entries[entry_index(Lbn(block), kLeafLevel)];
    const Address fresh = run.where == Where::zero
                              ? Address()
                              : Address::from_raw(run.place).plus(block - run.lbn.value);
    if (entry == fresh) continue;
    if (!entry.is_unmapped()) replace_block(Lbn(block), entry);
    entry = fresh;
    changed = true;
  }
  advance(to);
  return changed;
}

/// Gives `page` away, which replaces `old`.
Task<Result<Subtree>> Builder::finish(NewPage page, Address old) {
  if (!old.is_unmapped()) result_.replaced_pages.push_back(old);
  VMS_CO_CHECK(co_await sink_.add(std::move(page)));
  Subtree made;
  made.index = result_.page_count++;
  co_return made;
}

/// `old_page` is null when there is none, or when all of it is covered and nothing is collected.
Task<Result<Subtree>> Builder::build_leaf(PagePtr old_page, Address old, Lbn first) {
  const std::uint64_t end = first.value + blocks_per_page(kLeafLevel);
  NewPage leaf;
  leaf.level = kLeafLevel;
  leaf.first_lbn = first;
  if (old_page != nullptr) leaf.page = *old_page;
  bool changed = false;
  while (const Extent* run = run_before(end)) {
    if (apply_run(leaf.page, *run, end)) changed = true;
  }
  Subtree unchanged;
  unchanged.address = old;
  if (!changed) co_return unchanged;
  if (!leaf.page.all_zero()) co_return co_await finish(std::move(leaf), old);
  if (!old.is_unmapped()) result_.replaced_pages.push_back(old);
  co_return Subtree();
}

/// REQUIRES: a run begins before the end of the page.
Task<Result<Subtree>> Builder::build_child(unsigned level, Address old, Lbn first) {
  if (level != kLeafLevel) co_return co_await build(level, old, first);
  const Extent& run = runs_[next_];
  const bool covered = run.where == Where::address && run.lbn <= first &&
                       end_of(run) >= first.value + blocks_per_page(level);
  PagePtr page;
  if (!old.is_unmapped() && (collect_ || !covered)) {
    VMS_CO_TRY(page, co_await pages_.load(old));
  }
  co_return co_await build_leaf(std::move(page), old, first);
}

Task<Result<Subtree>> Builder::build(unsigned level, Address old, Lbn first) {
  const std::uint64_t end = first.value + blocks_per_page(level);
  NewPage fresh;
  fresh.level = static_cast<std::uint8_t>(level);
  fresh.first_lbn = first;
  if (!old.is_unmapped()) {
    VMS_CO_TRY(const PagePtr page, co_await pages_.load(old));
    fresh.page = *page;
  }
  bool changed = false;
  while (const Extent* run = run_before(end)) {
    const Lbn from(std::max(run->lbn.value, position_));
    const std::size_t slot = entry_index(from, level);
    const Lbn child_first = page_first(from, level - 1);
    const std::uint64_t child_end = child_first.value + blocks_per_page(level - 1);
    Address& entry = fresh.page.entries[slot];
    const bool is_zero = run->where == Where::zero;
    if (is_zero && entry.is_unmapped()) {
      advance(std::min(end_of(*run), child_end));
      continue;
    }
    if (is_zero && from == child_first && end_of(*run) >= child_end) {
      if (collect_) VMS_CO_CHECK(co_await drop(level - 1, entry, child_first));
      entry = Address();
      changed = true;
      advance(child_end);
      continue;
    }
    VMS_CO_TRY(const Subtree child, co_await build_child(level - 1, entry, child_first));
    if (child.index) {
      fresh.children.push_back({static_cast<std::uint16_t>(slot), *child.index});
    }
    if (child.index || child.address != entry) changed = true;
    entry = child.address;
  }
  if (!changed) co_return Subtree{old, std::nullopt};
  if (fresh.children.empty() && fresh.page.all_zero()) {
    if (!old.is_unmapped()) result_.replaced_pages.push_back(old);
    co_return Subtree{Address(), std::nullopt};
  }
  co_return co_await finish(std::move(fresh), old);
}

/// Reports every page and block of a subtree that is no longer used.
Task<Result<void>> Builder::drop(unsigned level, Address old, Lbn first) {
  VMS_CO_TRY(const PagePtr page, co_await pages_.load(old));
  for (std::size_t i = 0; i < kPageEntries; ++i) {
    const Address entry = page->entries[i];
    if (entry.is_unmapped()) continue;
    const Lbn lbn(first.value + i * blocks_per_entry(level));
    if (level == kLeafLevel) {
      replace_block(lbn, entry);
    } else {
      VMS_CO_CHECK(co_await drop(level - 1, entry, lbn));
    }
  }
  result_.replaced_pages.push_back(old);
  co_return success();
}

}  // namespace

Task<Result<Checkpoint>> build_checkpoint(PageSource& pages,
                                          PageSink& sink,
                                          Address top,
                                          const RunMap& overlay,
                                          std::uint64_t size_blocks,
                                          bool collect_replaced) {
  if (size_blocks > kIndexBlocks) co_return Errc::invalid_argument;
  Builder builder(pages, sink, overlay, size_blocks, collect_replaced);
  co_return co_await builder.run(top);
}

}  // namespace vmstore::snapshot
