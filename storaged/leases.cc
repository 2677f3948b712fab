// SPDX-License-Identifier: Apache-2.0
// Steps of docs/protocol/handover.pml: others.
#include "storaged/leases.h"

#include <algorithm>

namespace vmstore::storaged {

Result<void> Leases::hold(DiskId disk, Epoch epoch, SessionId session, TimePoint now) {
  const auto found = holds_.find(disk);
  if (found != holds_.end()) {
    if (found->second.epoch > epoch) return Errc::stale_token;
    forget_of_session(found->second.session, disk);
  }
  holds_[disk] = Hold{epoch, session, now, true};
  by_session_[session].push_back(disk);
  return success();
}

void Leases::release(DiskId disk, Epoch epoch, SessionId session) noexcept {
  const auto found = holds_.find(disk);
  if (found == holds_.end()) return;
  if (found->second.session != session || found->second.epoch != epoch) return;
  forget_of_session(session, disk);
  holds_.erase(found);
}

void Leases::renew(SessionId session, TimePoint when) noexcept {
  const auto found = by_session_.find(session);
  if (found == by_session_.end()) return;
  for (const DiskId disk : found->second) {
    Hold& hold = holds_.at(disk);
    hold.renewed = std::max(hold.renewed, when);
  }
}

void Leases::end_session(SessionId session, bool is_gone) noexcept {
  const auto found = by_session_.find(session);
  if (found == by_session_.end()) return;
  for (const DiskId disk : found->second) {
    if (is_gone) {
      holds_.erase(disk);
    } else {
      holds_.at(disk).connected = false;
    }
  }
  if (is_gone) by_session_.erase(found);
}

std::vector<DiskId> Leases::lost(SessionId session, const std::vector<DiskId>& asked) const {
  std::vector<DiskId> gone;
  for (const DiskId disk : asked) {
    const auto found = holds_.find(disk);
    if (found == holds_.end() || found->second.session != session) gone.push_back(disk);
  }
  return gone;
}

void Leases::expire(TimePoint now) noexcept {
  for (auto it = holds_.begin(); it != holds_.end();) {
    const bool over = !it->second.connected && left(it->second, now) <= Duration(0);
    if (over) forget_of_session(it->second.session, it->first);
    it = over ? holds_.erase(it) : std::next(it);
  }
}

std::optional<Leases::Hold> Leases::find(DiskId disk) const {
  const auto found = holds_.find(disk);
  if (found == holds_.end()) return std::nullopt;
  return found->second;
}

std::optional<Leases::Hold> Leases::holder(DiskId disk, TimePoint now) const {
  const auto found = holds_.find(disk);
  if (found == holds_.end() || left(found->second, now) <= Duration(0)) return std::nullopt;
  return found->second;
}

Duration Leases::left(const Hold& hold, TimePoint now) const noexcept {
  return std::max(Duration(0), hold.renewed + term_ - now);
}

Duration Leases::grace_left(TimePoint now) const noexcept {
  return std::max(Duration(0), started_ + term_ - now);
}

std::size_t Leases::count(SessionId session) const noexcept {
  const auto found = by_session_.find(session);
  return found == by_session_.end() ? 0 : found->second.size();
}

void Leases::forget_of_session(SessionId session, DiskId disk) noexcept {
  const auto found = by_session_.find(session);
  if (found == by_session_.end()) return;
  std::erase(found->second, disk);
  if (found->second.empty()) by_session_.erase(found);
}

}  // namespace vmstore::storaged
