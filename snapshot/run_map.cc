// SPDX-License-Identifier: Apache-2.0
#include "snapshot/run_map.h"

#include <algorithm>

#include "base/assert.h"

namespace vmstore::snapshot {
namespace {

/// `place` of the block `count` further on.
std::uint64_t advance(Where where, std::uint64_t place, std::uint64_t count) noexcept {
  switch (where) {
    case Where::slot:
      return place + count;
    case Where::address:
      return Address::from_raw(place).plus(count).raw();
    case Where::zero:
      return 0;
  }
  return 0;
}

}  // namespace

Extent Extent::part(Lbn from, std::uint64_t count) const noexcept {
  VMS_ASSERT(from >= lbn);
  const std::uint64_t skipped = from.value - lbn.value;
  VMS_ASSERT(skipped + count <= blocks);
  return {from, count, where, advance(where, place, skipped)};
}

bool Extent::continues(const Extent& before) const noexcept {
  if (before.lbn.value + before.blocks != lbn.value || before.where != where) return false;
  if (advance(where, before.place, before.blocks) != place) return false;
  // The block after the last one of a key has the number of the first one of the next key.
  return where != Where::address ||
         Address::from_raw(before.place).key() == Address::from_raw(place).key();
}

void RunMap::put(const Extent& extent, const Visitor& replaced) {
  VMS_ASSERT(extent.blocks > 0 && extent.lbn.value + extent.blocks > extent.lbn.value);
  erase(extent.lbn, extent.blocks, replaced);
  Extent merged = extent;
  auto after = runs_.lower_bound(extent.lbn.value);
  if (after != runs_.end() && at(after).continues(extent)) {
    merged.blocks += after->second.blocks;
    after = runs_.erase(after);
  }
  if (after != runs_.begin()) {
    const auto before = std::prev(after);
    if (merged.continues(at(before))) {
      before->second.blocks += merged.blocks;
      return;
    }
  }
  runs_.emplace_hint(after, merged.lbn.value, Value{merged.blocks, merged.where, merged.place});
}

std::optional<Extent> RunMap::find(Lbn lbn) const {
  auto run = runs_.upper_bound(lbn.value);
  if (run == runs_.begin()) return std::nullopt;
  const Extent extent = at(std::prev(run));
  const std::uint64_t skipped = lbn.value - extent.lbn.value;
  if (skipped >= extent.blocks) return std::nullopt;
  return extent.part(lbn, extent.blocks - skipped);
}

std::optional<Extent> RunMap::next(Lbn lbn) const {
  const auto run = runs_.lower_bound(lbn.value);
  if (run == runs_.end()) return std::nullopt;
  return at(run);
}

void RunMap::visit(Lbn lbn, std::uint64_t blocks, const Visitor& visitor) const {
  const std::uint64_t end = lbn.value + blocks;
  auto run = runs_.upper_bound(lbn.value);
  if (run != runs_.begin()) --run;
  for (; run != runs_.end() && run->first < end; ++run) {
    const Extent extent = at(run);
    const std::uint64_t from = std::max(lbn.value, extent.lbn.value);
    const std::uint64_t to = std::min(end, extent.lbn.value + extent.blocks);
    if (from < to) visitor(extent.part(Lbn(from), to - from));
  }
}

void RunMap::visit_all(const Visitor& visitor) const {
  for (auto run = runs_.begin(); run != runs_.end(); ++run) visitor(at(run));
}

void RunMap::erase(Lbn lbn, std::uint64_t blocks, const Visitor& removed) {
  const std::uint64_t end = lbn.value + blocks;
  auto run = runs_.upper_bound(lbn.value);
  if (run != runs_.begin()) --run;
  while (run != runs_.end() && run->first < end) {
    const Extent extent = at(run);
    const std::uint64_t extent_end = extent.lbn.value + extent.blocks;
    const std::uint64_t from = std::max(lbn.value, extent.lbn.value);
    const std::uint64_t to = std::min(end, extent_end);
    if (from >= to) {
      ++run;
      continue;
    }
    if (removed) removed(extent.part(Lbn(from), to - from));
    if (from > extent.lbn.value) {
      run->second.blocks = from - extent.lbn.value;
      ++run;
    } else {
      run = runs_.erase(run);
    }
    if (to < extent_end) {
      const Extent tail = extent.part(Lbn(to), extent_end - to);
      runs_.emplace_hint(run, tail.lbn.value, Value{tail.blocks, tail.where, tail.place});
    }
  }
}

}  // namespace vmstore::snapshot
