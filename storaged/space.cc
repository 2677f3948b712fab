// SPDX-License-Identifier: Apache-2.0
#include "storaged/space.h"

#include <algorithm>
#include <array>

#include "base/log.h"
#include "base/units.h"

namespace vmstore::storaged {
namespace {

constexpr std::array<unsigned, 3> kSteps{95, 85, 70};
constexpr unsigned kPressurePercent = 90;  // full: garbage is collected whatever there is of it
constexpr std::uint64_t kHundred = 100;

unsigned percent_full(const SpaceSample& sample) noexcept {
  if (sample.total_bytes == 0) return 0;
  const std::uint64_t taken = sample.total_bytes - std::min(sample.free_bytes, sample.total_bytes);
  // Divided first: no size of a file system overflows, and one percent is exact enough.
  return static_cast<unsigned>(taken / std::max<std::uint64_t>(1, sample.total_bytes / kHundred));
}

}  // namespace

void SpaceWatch::sample(const SpaceSample& sample) {
  sample_ = sample;
  const unsigned step = fullness_step();
  if (step > told_step_) {
    VMS_LOG(warning,
            "node",
            "the data folder's file system is " << percent_full(sample_) << " % full, "
                                                << format_size(sample_.free_bytes) << " free");
  }
  told_step_ = step;
}

unsigned SpaceWatch::fullness_step() const noexcept {
  const unsigned full = percent_full(sample_);
  for (const unsigned step : kSteps) {
    if (full >= step) return step;
  }
  return 0;
}

void SpaceWatch::round_ended(std::uint64_t used_bytes, TimePoint now) noexcept {
  live_bytes_ = used_bytes;
  sample_.used_bytes = used_bytes;
  last_round_ = now;
}

std::uint64_t SpaceWatch::garbage_bytes() const noexcept {
  return sample_.used_bytes - std::min(sample_.used_bytes, live_bytes_);
}

bool SpaceWatch::round_is_due(TimePoint now) const noexcept {
  if (last_round_ && now < *last_round_ + kBetweenRounds) return false;
  if (percent_full(sample_) >= kPressurePercent && garbage_bytes() > 0) return true;
  return has_much_garbage();
}

bool SpaceWatch::has_much_garbage() const noexcept {
  const std::uint64_t garbage = garbage_bytes();
  return garbage > kGarbageBytesMin && garbage > live_bytes_ / 2;
}

Duration SpaceWatch::append_delay() const noexcept {
  // A store that is only being filled is not slowed: with room to spare, garbage may wait.
  const unsigned full = percent_full(sample_);
  if (full < kSlowFromPercent || !has_much_garbage()) return Duration(0);
  const auto over = std::min<std::int64_t>(full, kHundred) - std::int64_t{kSlowFromPercent};
  return kSlowMost * over / (std::int64_t{kHundred} - std::int64_t{kSlowFromPercent});
}

std::vector<std::string> SpaceWatch::warnings() const {
  std::vector<std::string> found;
  if (fullness_step() != 0) {
    found.push_back("file system " + std::to_string(percent_full(sample_)) + " % full, " +
                    format_size(sample_.free_bytes) + " free");
  }
  if (append_delay() > Duration(0)) {
    found.push_back("writers are slowed: " + format_size(garbage_bytes()) +
                    " may be garbage that is not freed yet");
  }
  return found;
}

}  // namespace vmstore::storaged
