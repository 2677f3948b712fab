// SPDX-License-Identifier: Apache-2.0
// RingSpace: where the next group goes and what is in use; arithmetic only.
//
// Invariants: a group lies in one piece; what is between tail and head is never handed out; space
// comes back only in order.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "base/assert.h"
#include "storaged/journal_scan.h"

namespace vmstore::storaged {

/// THREADS: one.
class RingSpace {
 public:
  RingSpace() = default;
  /// An empty ring over [start, end) of the file; the next group goes to `head`.
  RingSpace(std::uint64_t start, std::uint64_t end, std::uint64_t head)
      : start_(start), end_(end), head_(head) {
    VMS_ASSERT(start < end && head >= start && head <= end);
  }

  [[nodiscard]] std::uint64_t capacity() const noexcept { return end_ - start_; }
  [[nodiscard]] std::uint64_t used() const noexcept { return used_; }
  [[nodiscard]] bool empty() const noexcept { return groups_.empty(); }

  /// Where a group of `bytes` may be written now; empty when it must wait for space.
  [[nodiscard]] std::optional<std::uint64_t> place(std::uint64_t bytes) const noexcept {
    if (used_ + bytes > capacity()) return std::nullopt;
    const std::uint64_t tail = this->tail();
    const bool wrapped = used_ > 0 && tail >= head_;
    if (wrapped) return bytes <= tail - head_ ? std::optional(head_) : std::nullopt;
    if (bytes <= end_ - head_) return head_;
    return bytes <= tail - start_ ? std::optional(start_) : std::nullopt;
  }
  /// The group is being written at place(group.bytes).
  void take(const GroupPlace& group) {
    VMS_ASSERT(place(group.bytes) == group.offset);
    const std::uint64_t gap = group.offset == head_ ? 0 : end_ - head_;
    groups_.push_back({group, gap});
    used_ += gap + group.bytes;
    head_ = group.offset + group.bytes;
  }
  /// Gives back all groups up to and including `number`.
  void release(std::uint64_t number) {
    while (!groups_.empty() && groups_.front().place.number <= number) {
      used_ -= groups_.front().gap + groups_.front().place.bytes;
      groups_.pop_front();
    }
  }
  /// The groups up to and including `number`, oldest first.
  [[nodiscard]] std::vector<GroupPlace> groups_up_to(std::uint64_t number) const {
    std::vector<GroupPlace> places;
    for (const Taken& group : groups_) {
      if (group.place.number <= number) places.push_back(group.place);
    }
    return places;
  }
  /// Where replay would begin if everything up to and including `number` were released.
  [[nodiscard]] std::uint64_t tail_after(std::uint64_t number) const noexcept {
    for (const Taken& group : groups_) {
      if (group.place.number > number) return group.place.offset;
    }
    return head_;
  }

 private:
  struct Taken {
    GroupPlace place;
    std::uint64_t gap = 0;  // bytes left unused at the end of the ring before it
  };
  [[nodiscard]] std::uint64_t tail() const noexcept {
    if (groups_.empty()) return head_;
    const Taken& oldest = groups_.front();
    return oldest.gap > 0 ? end_ - oldest.gap : oldest.place.offset;
  }
  std::uint64_t start_ = 0;
  std::uint64_t end_ = 0;
  std::uint64_t head_ = 0;
  std::uint64_t used_ = 0;
  std::deque<Taken> groups_;
};

}  // namespace vmstore::storaged
