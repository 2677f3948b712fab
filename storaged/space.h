// SPDX-License-Identifier: Apache-2.0
// SpaceWatch: how full the node is, what people are told about it, when garbage is worth
// collecting, and how much writers are slowed so that it does not grow without bound.
//
// Pure arithmetic on samples; Node takes the samples.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/limits.h"
#include "base/time.h"

namespace vmstore::storaged {

struct SpaceSample {
  std::uint64_t total_bytes = 0;  // of the file system
  std::uint64_t free_bytes = 0;
  std::uint64_t used_bytes = 0;  // by key files
};

/// THREADS: one.
class SpaceWatch {
 public:
  /// Garbage is collected by itself when it is more than this and more than half of what is live.
  /// Beyond that, writers are slowed on a file system that is fuller than kSlowFromPercent.
  static constexpr std::uint64_t kGarbageBytesMin = limits::kGiB;
  static constexpr unsigned kSlowFromPercent = 80;
  static constexpr Duration kSlowMost = std::chrono::milliseconds(50);  // for each append
  static constexpr Duration kBetweenRounds = std::chrono::seconds(60);

  /// Takes a sample; logs when a fullness of 70, 85 or 95 % is crossed.
  void sample(const SpaceSample& sample);
  /// After a round: what the key files take now is what is live, as far as one can tell.
  void round_ended(std::uint64_t used_bytes, TimePoint now) noexcept;
  void round_failed(TimePoint now) noexcept { last_round_ = now; }
  /// What an earlier start of the node knew.
  void restore_live(std::uint64_t live_bytes) noexcept { live_bytes_ = live_bytes; }

  [[nodiscard]] const SpaceSample& newest() const noexcept { return sample_; }
  [[nodiscard]] std::uint64_t live_bytes() const noexcept { return live_bytes_; }
  /// Grown since the last round: an upper bound of the garbage.
  [[nodiscard]] std::uint64_t garbage_bytes() const noexcept;
  [[nodiscard]] bool round_is_due(TimePoint now) const noexcept;
  /// How long the answer to an append is held back.
  [[nodiscard]] Duration append_delay() const noexcept;
  [[nodiscard]] std::vector<std::string> warnings() const;

 private:
  [[nodiscard]] bool has_much_garbage() const noexcept;
  /// 0, 70, 85 or 95.
  [[nodiscard]] unsigned fullness_step() const noexcept;
  SpaceSample sample_;
  std::uint64_t live_bytes_ = 0;
  std::optional<TimePoint> last_round_;
  unsigned told_step_ = 0;
};

}  // namespace vmstore::storaged
