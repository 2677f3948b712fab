// SPDX-License-Identifier: Apache-2.0
#include "tests/support/crash_points.h"

#include <utility>

#include "base/assert.h"
#include "base/fault.h"

namespace vmstore::sim {

CrashPoints::CrashPoints(World& world) : world_(world) {
  fault::set_handler([this](std::string_view point) { reached(point); });
}

CrashPoints::~CrashPoints() {
  fault::set_handler({});
}

void CrashPoints::arm(VirtualScheduler& victim, std::string point, std::uint64_t nth) {
  VMS_ASSERT(nth > 0);
  victim_ = &victim;
  point_ = std::move(point);
  left_ = nth;
  fired_at_.clear();
}

void CrashPoints::reached(std::string_view point) {
  VirtualScheduler* const process = world_.current();
  if (process != nullptr && process->is_frozen()) return;  // it is dead and does not know
  auto found = hits_.find(point);
  if (found == hits_.end()) found = hits_.emplace(point, 0).first;
  ++found->second;
  world_.trace(point);
  if (victim_ == nullptr || process != victim_) return;
  if ((!point_.empty() && point != point_) || --left_ > 0) return;
  fired_at_ = point;
  std::exchange(victim_, nullptr)->freeze();
}

}  // namespace vmstore::sim
