// SPDX-License-Identifier: Apache-2.0
// ClockTable: which address lies in which of a fixed number of places, and which place to use next.
// What both caches of disk/ are made of; it holds no content.
//
// Eviction is CLOCK (Corbató 1968): a place used since the hand came by stays for another round,
// a new one does not count as used, so that a scan pushes out little but itself.
// Invariants: a place holds one address, an address has one place; places are 0 .. size()-1;
// nothing is allocated before the first insert, and nothing after it.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/ids.h"

namespace vmstore::disk {

/// THREADS: externally synchronised.
class ClockTable {
 public:
  explicit ClockTable(std::uint32_t capacity) noexcept : capacity_(capacity) {}

  /// The place of `address`, which counts as used now.
  [[nodiscard]] std::optional<std::uint32_t> use(Address address) noexcept;
  [[nodiscard]] bool contains(Address address) const noexcept;
  /// The place `address` has from now on; what was there before is gone. REQUIRES: it has none, and
  /// capacity > 0.
  [[nodiscard]] std::uint32_t insert(Address address);
  void clear() noexcept;
  [[nodiscard]] std::uint32_t size() const noexcept {
    return static_cast<std::uint32_t>(places_.size());
  }
  [[nodiscard]] std::uint32_t capacity() const noexcept { return capacity_; }

 private:
  struct Place {
    Address address;
    bool used = false;
  };
  static constexpr std::uint32_t kEmpty = ~std::uint32_t{0};

  [[nodiscard]] std::size_t bucket_of(Address address) const noexcept;
  /// The bucket that has `address`, or the empty one where it would be put.
  [[nodiscard]] std::size_t probe(Address address) const noexcept;
  void remove(Address address) noexcept;
  [[nodiscard]] std::uint32_t evict() noexcept;

  std::uint32_t capacity_;
  std::uint32_t hand_ = 0;
  std::vector<Place> places_;
  std::vector<std::uint32_t> buckets_;  // a power of two, at most half of them full: linear probing
};

}  // namespace vmstore::disk
