// SPDX-License-Identifier: Apache-2.0
// Random: the seam for randomness. Seeded and reproducible; production takes the system's.
#pragma once

#include <cstdint>

#include "base/ids.h"

namespace vmstore {

/// A seed from the operating system (getrandom).
[[nodiscard]] std::uint64_t system_seed();

/// SplitMix64 (Steele, Lea, Flood 2014). Not for secrets. THREADS: one.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  /// For production: every id is 128 bits of the operating system's. A seeded generator's ids have
  /// no more than the 64 bits of its state: with many of them two would meet.
  [[nodiscard]] static Random from_system() {
    Random random(system_seed());
    random.system_ids_ = true;
    return random;
  }
  [[nodiscard]] std::uint64_t u64() noexcept {
    state_ += 0x9e3779b97f4a7c15U;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return z ^ (z >> 31);
  }
  /// Uniform enough in [0, bound). REQUIRES: bound > 0.
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) noexcept { return u64() % bound; }
  [[nodiscard]] bool one_in(std::uint64_t n) noexcept { return below(n) == 0; }
  template <class Id>
  [[nodiscard]] Id id128() {
    if (system_ids_) return Id{system_seed(), system_seed()};
    return Id{u64(), u64()};
  }

 private:
  std::uint64_t state_;
  bool system_ids_ = false;
};

}  // namespace vmstore
