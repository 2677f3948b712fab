// SPDX-License-Identifier: Apache-2.0
#include "tests/support/memory_inode.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"

namespace vmstore::sim {
namespace {

constexpr std::uint64_t kPage = MemoryInode::kPageBytes;

std::uint64_t pages_up(std::uint64_t bytes) {
  return (bytes + kPage - 1) / kPage;
}

/// Mask of the sectors that [from, to) of a page touches.
std::uint8_t sector_mask(std::uint64_t from, std::uint64_t to) {
  unsigned mask = 0;
  for (std::uint64_t s = from / MemoryInode::kSector; s * MemoryInode::kSector < to; ++s) {
    mask |= 1U << s;
  }
  return static_cast<std::uint8_t>(mask);
}

bool has_sector(std::uint8_t mask, std::uint64_t sector) {
  return ((std::uint64_t{mask} >> sector) & 1U) != 0;
}

bool decide(std::map<std::uint64_t, bool>& kept, std::uint64_t truncation, Random& random) {
  const auto [known, is_new] = kept.try_emplace(truncation, false);
  if (is_new) known->second = random.one_in(2);
  return known->second;
}

}  // namespace

void RangeSet::add(std::uint64_t begin, std::uint64_t end) {
  if (begin >= end) return;
  remove(begin, end);
  count_ += end - begin;
  auto after = ranges_.lower_bound(begin);
  if (after != ranges_.end() && after->first == end) {
    end = after->second;
    after = ranges_.erase(after);
  }
  if (after != ranges_.begin()) {
    const auto before = std::prev(after);
    if (before->second == begin) {
      before->second = end;
      return;
    }
  }
  ranges_.emplace(begin, end);
}

void RangeSet::remove(std::uint64_t begin, std::uint64_t end) {
  auto range = ranges_.upper_bound(begin);
  if (range != ranges_.begin()) --range;
  while (range != ranges_.end() && range->first < end) {
    const auto [first, last] = *range;
    if (last <= begin) {
      ++range;
      continue;
    }
    range = ranges_.erase(range);
    count_ -= std::min(last, end) - std::max(first, begin);
    if (first < begin) ranges_.emplace(first, begin);
    if (last > end) ranges_.emplace(end, last);
  }
}

bool RangeSet::contains(std::uint64_t number) const {
  const auto after = ranges_.upper_bound(number);
  return after != ranges_.begin() && std::prev(after)->second > number;
}

std::uint64_t RangeSet::count_in(std::uint64_t begin, std::uint64_t end) const {
  std::uint64_t total = 0;
  auto range = ranges_.upper_bound(begin);
  if (range != ranges_.begin()) --range;
  for (; range != ranges_.end() && range->first < end; ++range) {
    if (range->second <= begin) continue;
    total += std::min(range->second, end) - std::max(range->first, begin);
  }
  return total;
}

std::uint64_t MemoryInode::missing_pages(std::uint64_t offset, std::uint64_t length) const {
  if (length == 0) return 0;
  const std::uint64_t first = offset / kPage;
  const std::uint64_t end = pages_up(offset + length);
  std::uint64_t missing = end - first - reserved_.count_in(first, end);
  for (auto page = pages_.lower_bound(first); page != pages_.end() && page->first < end; ++page) {
    if (page->second.data && !reserved_.contains(page->first)) --missing;
  }
  return missing;
}

std::uint64_t MemoryInode::writable_bytes(std::uint64_t offset,
                                          std::uint64_t length,
                                          std::uint64_t pages) const {
  std::uint64_t at = offset;
  const std::uint64_t end = offset + length;
  while (at < end) {
    const std::uint64_t next = std::min(end, (at / kPage + 1) * kPage);
    const std::uint64_t need = missing_pages(at, next - at);
    if (need > pages) break;
    pages -= need;
    at = next;
  }
  return at - offset;
}

std::size_t MemoryInode::read(std::uint64_t offset, MutableBytes into) const {
  if (offset >= size_) return 0;
  const std::uint64_t length = std::min<std::uint64_t>(into.size(), size_ - offset);
  const std::uint64_t end = offset + length;
  auto page = pages_.lower_bound(offset / kPage);
  for (std::uint64_t at = offset; at < end;) {
    const std::uint64_t number = at / kPage;
    const std::uint64_t next = std::min(end, (number + 1) * kPage);
    std::byte* const target = into.data() + (at - offset);
    while (page != pages_.end() && page->first < number) ++page;
    if (page != pages_.end() && page->first == number && page->second.data) {
      std::memcpy(target, page->second.data->data() + at % kPage, next - at);
    } else {
      std::memset(target, 0, next - at);
    }
    at = next;
  }
  return length;
}

MemoryInode::Page& MemoryInode::page_to_change(std::uint64_t number) {
  Page& page = pages_[number];
  if (page.changes.empty()) dirty_pages_.push_back(number);
  return page;
}

void MemoryInode::remember(Page& page, Change change) {
  page.changes.push_back(std::move(change));
  if (page.changes.size() <= kChangesPerPageMax) return;
  Change& first = page.changes[0];
  Change& second = page.changes[1];
  if (first.kind != ChangeKind::write || second.kind != ChangeKind::write) return;
  // The two oldest become one: fewer outcomes of a power cut, none that cannot be.
  if (second.old && !first.old) first.old = std::make_unique<PageBytes>();
  for (std::uint64_t s = 0; s < kSectorsPerPage; ++s) {
    if (!has_sector(second.sectors, s) || has_sector(first.sectors, s) || !first.old) continue;
    std::byte* const target = first.old->data() + s * kSector;
    if (second.old) {
      std::memcpy(target, second.old->data() + s * kSector, kSector);
    } else {
      std::memset(target, 0, kSector);
    }
  }
  first.sectors = static_cast<std::uint8_t>(first.sectors | second.sectors);
  page.changes.erase(page.changes.begin() + 1);
}

void MemoryInode::write_in_page(std::uint64_t number, std::uint64_t at, ByteSpan bytes) {
  Page& page = page_to_change(number);
  Change change;
  change.sectors = sector_mask(at, at + bytes.size());
  if (!page.data && !reserved_.contains(number)) ++loose_;
  if (bytes.size() == kPage) {
    change.old = std::exchange(page.data, std::make_unique_for_overwrite<PageBytes>());
  } else if (page.data) {
    change.old = std::make_unique<PageBytes>(*page.data);
  } else {
    page.data = std::make_unique<PageBytes>();
  }
  std::memcpy(page.data->data() + at, bytes.data(), bytes.size());
  remember(page, std::move(change));
}

void MemoryInode::write(std::uint64_t offset, ByteSpan bytes) {
  const std::uint64_t end = offset + bytes.size();
  while (!bytes.empty()) {
    const std::uint64_t at = offset % kPage;
    const std::size_t part = std::min<std::uint64_t>(bytes.size(), kPage - at);
    write_in_page(offset / kPage, at, bytes.first(part));
    bytes = bytes.subspan(part);
    offset += part;
  }
  if (end > size_) {
    note_size(0);
    size_ = end;
  }
}

void MemoryInode::note_size(std::uint64_t truncation) {
  const bool both_grown =
      truncation == 0 && !size_changes_.empty() && size_changes_.back().truncation == 0;
  if (both_grown && size_changes_.size() >= kSizeChangesMax) return;
  size_changes_.push_back({size_, truncation});
}

void MemoryInode::allocate(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  if (!reserved_before_) reserved_before_ = reserved_;
  const std::uint64_t first = offset / kPage;
  const std::uint64_t end = pages_up(offset + length);
  for (auto page = pages_.lower_bound(first); page != pages_.end() && page->first < end; ++page) {
    if (page->second.data && !reserved_.contains(page->first)) --loose_;
  }
  reserved_.add(first, end);
}

void MemoryInode::zero_in_page(std::uint64_t number,
                               std::uint64_t from,
                               std::uint64_t to,
                               ChangeKind kind,
                               std::uint64_t truncation) {
  const auto found = pages_.find(number);
  if (found == pages_.end() || !found->second.data || from >= to) return;
  Page& page = page_to_change(number);
  Change change{kind, sector_mask(from, to), truncation, std::make_unique<PageBytes>(*page.data)};
  std::memset(page.data->data() + from, 0, to - from);
  remember(page, std::move(change));
}

void MemoryInode::drop_pages(std::uint64_t first,
                             std::uint64_t end,
                             ChangeKind kind,
                             std::uint64_t truncation) {
  if (first >= end) return;
  for (auto page = pages_.lower_bound(first); page != pages_.end() && page->first < end; ++page) {
    if (!page->second.data) continue;
    if (!reserved_.contains(page->first)) --loose_;
    Page& changed = page_to_change(page->first);
    remember(changed, Change{kind, 0xff, truncation, std::exchange(changed.data, nullptr)});
  }
  if (reserved_.count_in(first, end) == 0) return;
  if (!reserved_before_) reserved_before_ = reserved_;
  reserved_.remove(first, end);
}

void MemoryInode::punch(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  const std::uint64_t end = offset + length;
  const std::uint64_t first_whole = pages_up(offset);
  const std::uint64_t end_whole = end / kPage;
  if (offset / kPage == end / kPage) {
    zero_in_page(offset / kPage, offset % kPage, end % kPage, ChangeKind::write, 0);
    return;
  }
  if (offset % kPage != 0) {
    zero_in_page(offset / kPage, offset % kPage, kPage, ChangeKind::write, 0);
  }
  drop_pages(first_whole, end_whole, ChangeKind::punch, 0);
  zero_in_page(end_whole, 0, end % kPage, ChangeKind::write, 0);
}

void MemoryInode::truncate(std::uint64_t size) {
  if (size == size_) return;
  const std::uint64_t truncation = ++truncations_;
  note_size(truncation);
  if (size < size_) {
    if (size % kPage != 0) {
      zero_in_page(size / kPage, size % kPage, kPage, ChangeKind::truncate, truncation);
    }
    drop_pages(pages_up(size), ~std::uint64_t{0}, ChangeKind::truncate, truncation);
  }
  size_ = size;
}

void MemoryInode::sync() {
  for (const std::uint64_t number : dirty_pages_) {
    const auto page = pages_.find(number);
    if (page == pages_.end()) continue;
    page->second.changes.clear();
    if (!page->second.data) pages_.erase(page);
  }
  dirty_pages_.clear();
  size_changes_.clear();
  reserved_before_.reset();
}

void MemoryInode::sync_range(std::uint64_t offset, std::uint64_t length) {
  if (length == 0) return;
  const std::uint64_t end = offset + length;
  for (auto page = pages_.lower_bound(offset / kPage);
       page != pages_.end() && page->first * kPage < end;
       ++page) {
    const std::uint64_t start = page->first * kPage;
    const std::uint8_t mask =
        sector_mask(std::max(offset, start) - start, std::min(end, start + kPage) - start);
    auto& changes = page->second.changes;
    for (Change& change : changes) {
      change.sectors = static_cast<std::uint8_t>(change.sectors & ~mask);
    }
    std::erase_if(changes, [](const Change& change) { return change.sectors == 0; });
    if (changes.empty()) std::erase(dirty_pages_, page->first);
  }
  // The size goes with the write that made it. What other writes grew behind it may stay unsynced.
  std::erase_if(size_changes_, [&](const SizeChange& change) { return change.old_size < end; });
}

bool MemoryInode::is_dirty() const noexcept {
  return !dirty_pages_.empty() || !size_changes_.empty() || reserved_before_.has_value();
}

std::uint64_t MemoryInode::settled_size(Random& random, std::map<std::uint64_t, bool>& kept) {
  std::uint64_t size = size_;
  for (auto change = size_changes_.rbegin(); change != size_changes_.rend(); ++change) {
    if (change->truncation != 0) {
      if (decide(kept, change->truncation, random)) break;
      size = change->old_size;
      continue;
    }
    const std::uint64_t fate = random.below(4);
    if (fate < 2 || change->old_size >= size) break;
    if (fate == 2) {  // grown in part
      size =
          std::max(change->old_size,
                   (change->old_size + random.below(size - change->old_size)) / kSector * kSector);
      break;
    }
    size = change->old_size;
  }
  return size;
}

void MemoryInode::settle_page(Page& page, Random& random, std::map<std::uint64_t, bool>& kept) {
  std::vector<std::uint8_t> kept_sectors;  // of each change
  for (const Change& change : page.changes) {
    switch (change.kind) {
      case ChangeKind::write: {
        // Mostly all or nothing; torn otherwise.
        const std::uint64_t fate = random.below(4);
        const std::uint64_t torn = random.below(256);
        kept_sectors.push_back(static_cast<std::uint8_t>(fate == 0 ? 0 : fate == 1 ? torn : 0xff));
        break;
      }
      case ChangeKind::punch:
        kept_sectors.push_back(random.one_in(2) ? 0xff : 0);
        break;
      case ChangeKind::truncate:
        kept_sectors.push_back(decide(kept, change.truncation, random) ? 0xff : 0);
        break;
    }
  }
  for (std::uint64_t s = 0; s < kSectorsPerPage; ++s) {
    const Change* undone = nullptr;
    for (std::size_t i = page.changes.size(); i-- > 0;) {
      if (!has_sector(page.changes[i].sectors, s)) continue;
      if (has_sector(kept_sectors[i], s)) break;
      undone = &page.changes[i];
    }
    if (undone == nullptr || (!undone->old && !page.data)) continue;
    if (!page.data) page.data = std::make_unique<PageBytes>();
    std::byte* const target = page.data->data() + s * kSector;
    if (undone->old) {
      std::memcpy(target, undone->old->data() + s * kSector, kSector);
    } else {
      std::memset(target, 0, kSector);
    }
  }
  page.changes.clear();
}

void MemoryInode::settle(Random& random) {
  if (!is_dirty()) return;
  std::map<std::uint64_t, bool> kept;
  size_ = settled_size(random, kept);
  for (const std::uint64_t number : dirty_pages_) {
    const auto page = pages_.find(number);
    if (page != pages_.end()) settle_page(page->second, random, kept);
  }
  dirty_pages_.clear();
  size_changes_.clear();
  if (reserved_before_ && random.one_in(2)) reserved_ = std::move(*reserved_before_);
  reserved_before_.reset();
  cut_content(size_);
  recount();
}

void MemoryInode::cut_content(std::uint64_t size) {
  pages_.erase(pages_.lower_bound(pages_up(size)), pages_.end());
  const auto last = pages_.find(size / kPage);
  if (last != pages_.end() && last->second.data) {
    std::memset(last->second.data->data() + size % kPage, 0, kPage - size % kPage);
  }
}

void MemoryInode::recount() {
  loose_ = 0;
  for (auto page = pages_.begin(); page != pages_.end();) {
    const auto here = page++;
    if (!here->second.data) {
      pages_.erase(here);
    } else if (!reserved_.contains(here->first)) {
      ++loose_;
    }
  }
}

bool MemoryInode::flip_bit(std::uint64_t offset, unsigned bit) {
  const auto page = pages_.find(offset / kPage);
  if (offset >= size_ || page == pages_.end() || !page->second.data) return false;
  (*page->second.data)[offset % kPage] ^= static_cast<std::byte>(1U << (bit % 8));
  return true;
}

}  // namespace vmstore::sim
