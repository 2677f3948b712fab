// SPDX-License-Identifier: Apache-2.0
// A B+ tree of two levels: leaves of up to 64 runs, and one sorted array of the leaves' first
// blocks. A third level would pay off at some ten million runs; replay is bounded far below that.
//
// Single blocks at random, -O2, ns per call, best of 25: std::map by first block / this:
//       runs     put new       find      put over    visit_all a run
//      4,000    145 / 117    55 /  52    167 /  72      9.2 / 1.5
//     40,000    195 / 155   103 /  74    264 / 113       17 / 1.6
//    155,000    280 / 188   165 /  95    388 / 175       34 / 1.7
//    900,000    819 / 337   799 / 170   1192 / 427      169 / 6.3
// Leaves of 32 runs are the same within noise.
#include "snapshot/run_map.h"

#include <algorithm>
#include <span>
#include <utility>

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

std::uint64_t end_of(const Extent& extent) noexcept {
  return extent.lbn.value + extent.blocks;
}

/// Number of values of a sorted array that are not above `limit`. Without branches on the data:
/// std::upper_bound mispredicts every second step, which was half the cost of find().
std::size_t count_up_to(std::span<const std::uint64_t> sorted, std::uint64_t limit) noexcept {
  const std::uint64_t* first = sorted.data();
  std::size_t length = sorted.size();
  while (length > 1) {
    const std::size_t half = length / 2;
    first += first[half - 1] <= limit ? half : 0;
    length -= half;
  }
  const std::size_t last = length == 1 && *first <= limit ? 1 : 0;
  return static_cast<std::size_t>(first - sorted.data()) + last;
}

}  // namespace

// ---- extents ----

Extent Extent::part(Lbn from, std::uint64_t count) const noexcept {
  VMS_ASSERT(from >= lbn);
  const std::uint64_t skipped = from.value - lbn.value;
  VMS_ASSERT(skipped + count <= blocks);
  return {from, count, where, advance(where, place, skipped)};
}

bool Extent::continues(const Extent& before) const noexcept {
  if (end_of(before) != lbn.value || before.where != where) return false;
  if (advance(where, before.place, before.blocks) != place) return false;
  // The block after the last one of a key has the number of the first one of the next key.
  return where != Where::address ||
         Address::from_raw(before.place).key() == Address::from_raw(place).key();
}

// ---- leaves ----

/// Sorted arrays, one for each field: a search reads only the first one.
struct RunMap::Leaf {
  static constexpr std::size_t kRunsMax = 64;

  std::size_t count = 0;
  std::array<std::uint64_t, kRunsMax> lbn;
  std::array<std::uint64_t, kRunsMax> blocks;
  std::array<std::uint64_t, kRunsMax> place;
  std::array<Where, kRunsMax> where;

  [[nodiscard]] Extent at(std::size_t i) const noexcept {
    return {Lbn(lbn[i]), blocks[i], where[i], place[i]};
  }
  void set(std::size_t i, const Extent& run) noexcept {
    lbn[i] = run.lbn.value;
    blocks[i] = run.blocks;
    place[i] = run.place;
    where[i] = run.where;
  }
  /// Moves the runs from `from` on to begin at `to`.
  void shift(std::size_t from, std::size_t to) noexcept {
    const auto move = [&](auto& field) {
      const auto first = field.begin() + static_cast<std::ptrdiff_t>(from);
      const auto last = field.begin() + static_cast<std::ptrdiff_t>(count);
      if (to < from) {
        std::copy(first, last, field.begin() + static_cast<std::ptrdiff_t>(to));
      } else {
        std::copy_backward(
            first, last, field.begin() + static_cast<std::ptrdiff_t>(count + to - from));
      }
    };
    move(lbn);
    move(blocks);
    move(place);
    move(where);
    count = count + to - from;
  }
  /// Takes over the runs of `other` from `from` on, behind its own.
  void append(Leaf& other, std::size_t from) noexcept {
    for (std::size_t i = from; i < other.count; ++i) set(count++, other.at(i));
    other.count = from;
  }
};

RunMap::RunMap() = default;
RunMap::~RunMap() = default;
RunMap::RunMap(RunMap&& other) noexcept
    : firsts_(std::exchange(other.firsts_, {})),
      leaves_(std::exchange(other.leaves_, {})),
      run_count_(std::exchange(other.run_count_, 0)) {}
RunMap& RunMap::operator=(RunMap&& other) noexcept {
  firsts_ = std::exchange(other.firsts_, {});
  leaves_ = std::exchange(other.leaves_, {});
  run_count_ = std::exchange(other.run_count_, 0);
  return *this;
}

void RunMap::clear() noexcept {
  *this = RunMap();
}

// ---- positions ----

Extent RunMap::at(Position position) const noexcept {
  return leaves_[position.leaf]->at(position.run);
}

void RunMap::set(Position position, const Extent& run) noexcept {
  leaves_[position.leaf]->set(position.run, run);
  if (position.run == 0) firsts_[position.leaf] = run.lbn.value;
}

bool RunMap::is_end(Position position) const noexcept {
  return position.leaf == leaves_.size();
}

RunMap::Position RunMap::after(Position position) const noexcept {
  if (++position.run < leaves_[position.leaf]->count) return position;
  return {position.leaf + 1, 0};
}

/// REQUIRES: not the first one.
RunMap::Position RunMap::before(Position position) const noexcept {
  if (position.run > 0) return {position.leaf, position.run - 1};
  return {position.leaf - 1, leaves_[position.leaf - 1]->count - 1};
}

/// The last run that begins at or before `lbn`, or else the first run.
RunMap::Position RunMap::floor(Lbn lbn) const noexcept {
  const std::size_t leaves = count_up_to(firsts_, lbn.value);
  if (leaves == 0) return {0, 0};
  const Leaf& leaf = *leaves_[leaves - 1];
  return {leaves - 1, count_up_to(std::span(leaf.lbn).first(leaf.count), lbn.value) - 1};
}

/// The first run that ends beyond `lbn`.
RunMap::Position RunMap::seek(Lbn lbn) const noexcept {
  const Position position = floor(lbn);
  if (is_end(position) || end_of(at(position)) > lbn.value) return position;
  return after(position);
}

// ---- reading ----

std::optional<Extent> RunMap::find(Lbn lbn) const {
  if (empty()) return std::nullopt;
  const Extent run = at(floor(lbn));
  if (lbn < run.lbn || lbn.value >= end_of(run)) return std::nullopt;
  return run.part(lbn, end_of(run) - lbn.value);
}

std::optional<Extent> RunMap::next(Lbn lbn) const {
  Position position = floor(lbn);
  if (!is_end(position) && at(position).lbn < lbn) position = after(position);
  if (is_end(position)) return std::nullopt;
  return at(position);
}

void RunMap::visit(Lbn lbn, std::uint64_t blocks, const Visitor& visitor) const {
  const std::uint64_t end = lbn.value + blocks;
  for (Position position = seek(lbn); !is_end(position); position = after(position)) {
    const Extent run = at(position);
    if (run.lbn.value >= end) break;
    const std::uint64_t from = std::max(lbn.value, run.lbn.value);
    visitor(run.part(Lbn(from), std::min(end, end_of(run)) - from));
  }
}

void RunMap::visit_all(const Visitor& visitor) const {
  for (const auto& leaf : leaves_) {
    for (std::size_t i = 0; i < leaf->count; ++i) visitor(leaf->at(i));
  }
}

// ---- changing ----

void RunMap::put(const Extent& extent, const Visitor& replaced) {
  VMS_ASSERT(extent.blocks > 0 && end_of(extent) > extent.lbn.value);
  if (overwrite(extent, replaced)) return;
  Position position = cut(extent.lbn, extent.blocks, replaced);
  Extent merged = extent;
  if (!is_end(position) && at(position).continues(extent)) {
    merged.blocks += at(position).blocks;
    position = remove(position, after(position));
  }
  if (position.leaf > 0 || position.run > 0) {
    const Extent previous = at(before(position));
    if (merged.continues(previous)) {
      merged = {previous.lbn, previous.blocks + merged.blocks, previous.where, previous.place};
      set(before(position), merged);
      return;
    }
  }
  insert(position, merged);
}

/// The common case: exactly the same blocks again, joining no neighbour.
bool RunMap::overwrite(const Extent& extent, const Visitor& replaced) {
  const Position position = floor(extent.lbn);
  if (is_end(position)) return false;
  const Extent old = at(position);
  if (old.lbn != extent.lbn || old.blocks != extent.blocks) return false;
  const Position next = after(position);
  if (!is_end(next) && at(next).continues(extent)) return false;
  const bool is_first = position.leaf == 0 && position.run == 0;
  if (!is_first && extent.continues(at(before(position)))) return false;
  if (replaced) replaced(old);
  set(position, extent);
  return true;
}

void RunMap::erase(Lbn lbn, std::uint64_t blocks, const Visitor& removed) {
  static_cast<void>(cut(lbn, blocks, removed));
}

/// Removes what lies in [lbn, lbn+blocks) and returns the first run behind it.
RunMap::Position RunMap::cut(Lbn lbn, std::uint64_t blocks, const Visitor& removed) {
  const std::uint64_t end = lbn.value + blocks;
  Position position = seek(lbn);
  if (is_end(position)) return position;
  const Extent first = at(position);
  if (first.lbn.value >= end) return position;
  if (first.lbn < lbn) {
    const std::uint64_t stop = std::min(end, end_of(first));
    if (removed) removed(first.part(lbn, stop - lbn.value));
    set(position, first.part(first.lbn, lbn.value - first.lbn.value));
    position = after(position);
    if (end_of(first) > end) {
      insert(position, first.part(Lbn(end), end_of(first) - end));
      return seek(Lbn(end));
    }
  }
  Position stop = position;
  for (; !is_end(stop); stop = after(stop)) {
    const Extent run = at(stop);
    if (run.lbn.value >= end) break;
    if (end_of(run) > end) {
      if (removed) removed(run.part(run.lbn, end - run.lbn.value));
      set(stop, run.part(Lbn(end), end_of(run) - end));
      break;
    }
    if (removed) removed(run);
  }
  return remove(position, stop);
}

/// Puts `run` before `position`.
void RunMap::insert(Position position, const Extent& run) {
  ++run_count_;
  if (leaves_.empty()) {
    leaves_.push_back(std::make_unique<Leaf>());
    firsts_.push_back(run.lbn.value);
  } else if (position.run == 0 && position.leaf > 0) {
    position = {position.leaf - 1, leaves_[position.leaf - 1]->count};
  }
  if (leaves_[position.leaf]->count == Leaf::kRunsMax) position = split(position);
  Leaf& leaf = *leaves_[position.leaf];
  leaf.shift(position.run, position.run + 1);
  set(position, run);
}

/// Makes room in a full leaf and returns where `position` is then. Runs that only rise fill their
/// leaves whole.
RunMap::Position RunMap::split(Position position) {
  Leaf& full = *leaves_[position.leaf];
  const bool is_append = position.leaf + 1 == leaves_.size() && position.run == full.count;
  const std::size_t keep = is_append ? full.count : full.count / 2;
  auto fresh = std::make_unique<Leaf>();
  fresh->append(full, keep);
  const std::uint64_t first = fresh->count > 0 ? fresh->lbn[0] : 0;  // an append sets it
  const auto place = static_cast<std::ptrdiff_t>(position.leaf + 1);
  leaves_.insert(leaves_.begin() + place, std::move(fresh));
  firsts_.insert(firsts_.begin() + place, first);
  if (position.run < keep) return position;
  return {position.leaf + 1, position.run - keep};
}

/// Removes the runs [first, last) and returns where `last` is then.
RunMap::Position RunMap::remove(Position first, Position last) {
  if (first.leaf == last.leaf) {
    if (first.run == last.run) return first;
    run_count_ -= last.run - first.run;
    Leaf& leaf = *leaves_[first.leaf];
    leaf.shift(last.run, first.run);
    firsts_[first.leaf] = leaf.lbn[0];  // the run at `last` is left
    return join(first);
  }
  Leaf& head = *leaves_[first.leaf];
  run_count_ -= head.count - first.run;
  head.count = first.run;
  const std::size_t from = head.count == 0 ? first.leaf : first.leaf + 1;
  for (std::size_t i = first.leaf + 1; i < last.leaf; ++i) run_count_ -= leaves_[i]->count;
  if (!is_end(last)) {
    run_count_ -= last.run;
    leaves_[last.leaf]->shift(last.run, 0);
    firsts_[last.leaf] = leaves_[last.leaf]->lbn[0];
  }
  const auto begin = static_cast<std::ptrdiff_t>(from);
  const auto end = static_cast<std::ptrdiff_t>(last.leaf);
  leaves_.erase(leaves_.begin() + begin, leaves_.begin() + end);
  firsts_.erase(firsts_.begin() + begin, firsts_.begin() + end);
  return join({from, 0});
}

/// Joins the leaf of `position` with the one before it when both are nearly empty; returns where
/// `position` is then.
RunMap::Position RunMap::join(Position position) {
  if (is_end(position) || position.leaf == 0) return position;
  Leaf& left = *leaves_[position.leaf - 1];
  Leaf& right = *leaves_[position.leaf];
  if (left.count + right.count > Leaf::kRunsMax / 2) return position;
  position = {position.leaf - 1, left.count + position.run};
  left.append(right, 0);
  const auto place = static_cast<std::ptrdiff_t>(position.leaf + 1);
  leaves_.erase(leaves_.begin() + place);
  firsts_.erase(firsts_.begin() + place);
  return position;
}

}  // namespace vmstore::snapshot
