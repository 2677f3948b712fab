// SPDX-License-Identifier: Apache-2.0
#include "disk/clock_table.h"

#include <bit>
#include <functional>

#include "base/assert.h"

namespace vmstore::disk {
namespace {

constexpr std::size_t kBucketsPerPlace = 2;
constexpr unsigned kHashHighBits = 32;  // the caches choose a shard by other bits

}  // namespace

std::size_t ClockTable::bucket_of(Address address) const noexcept {
  const std::size_t hash = std::hash<Address>()(address);
  return (hash ^ (hash >> kHashHighBits)) & (buckets_.size() - 1);
}

std::size_t ClockTable::probe(Address address) const noexcept {
  std::size_t bucket = bucket_of(address);
  while (buckets_[bucket] != kEmpty && places_[buckets_[bucket]].address != address) {
    bucket = (bucket + 1) & (buckets_.size() - 1);
  }
  return bucket;
}

std::optional<std::uint32_t> ClockTable::use(Address address) noexcept {
  if (buckets_.empty()) return std::nullopt;
  const std::uint32_t place = buckets_[probe(address)];
  if (place == kEmpty) return std::nullopt;
  places_[place].used = true;
  return place;
}

bool ClockTable::contains(Address address) const noexcept {
  return !buckets_.empty() && buckets_[probe(address)] != kEmpty;
}

std::uint32_t ClockTable::insert(Address address) {
  VMS_ASSERT(capacity_ > 0);
  if (buckets_.empty()) {
    places_.reserve(capacity_);
    buckets_.assign(std::bit_ceil(capacity_ * kBucketsPerPlace), kEmpty);
  }
  std::uint32_t place = size();
  if (place < capacity_) {
    places_.emplace_back();
  } else {
    place = evict();
  }
  const std::size_t bucket = probe(address);
  VMS_ASSERT(buckets_[bucket] == kEmpty);
  buckets_[bucket] = place;
  places_[place] = {address, false};
  return place;
}

/// Frees a place: the first one behind the hand that was not used since the hand came by. Ends
/// after at most one round and a step.
std::uint32_t ClockTable::evict() noexcept {
  for (;;) {
    const std::uint32_t place = hand_;
    hand_ = hand_ + 1 == capacity_ ? 0 : hand_ + 1;
    if (!places_[place].used) {
      remove(places_[place].address);
      return place;
    }
    places_[place].used = false;
  }
}

/// Empties the bucket of `address` and moves later ones of its chain into the gap, so that no
/// search ends early (Knuth, volume 3, algorithm 6.4 R).
void ClockTable::remove(Address address) noexcept {
  const std::size_t mask = buckets_.size() - 1;
  std::size_t gap = probe(address);
  VMS_ASSERT(buckets_[gap] != kEmpty);
  for (std::size_t next = (gap + 1) & mask; buckets_[next] != kEmpty; next = (next + 1) & mask) {
    const std::size_t home = bucket_of(places_[buckets_[next]].address);
    if (((next - home) & mask) < ((next - gap) & mask)) continue;  // its home lies behind the gap
    buckets_[gap] = buckets_[next];
    gap = next;
  }
  buckets_[gap] = kEmpty;
}

void ClockTable::clear() noexcept {
  hand_ = 0;
  places_ = {};
  buckets_ = {};
}

}  // namespace vmstore::disk
