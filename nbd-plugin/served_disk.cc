// SPDX-License-Identifier: Apache-2.0
#include "nbd-plugin/served_disk.h"

#include <chrono>
#include <semaphore>

#include "base/log.h"

namespace vmstore::nbd_plugin {
namespace {
constexpr std::chrono::seconds kLeaveWait{2};
}

ServedDisk::Request::Request(ServedDisk& served) noexcept : served_(served) {
  // Both orders of these two and of the two in stop() end well: either stop() sees this request,
  // or this request sees stop().
  served_.requests_.fetch_add(1);
  if (!served_.stopping_.load()) return;
  served_.leave();
  std::binary_semaphore never(0);
  never.acquire();
}

ServedDisk::Request::~Request() {
  served_.leave();
}

void ServedDisk::leave() noexcept {
  if (requests_.fetch_sub(1) == 1 && stopping_.load()) requests_.notify_all();
}

Result<void> ServedDisk::connect(const disk::DiskOpenOptions& options) {
  std::unique_lock lock(mutex_);
  // A client that died or was cut off is gone, but nbdkit may not have closed its connection yet.
  const auto nobody_left = [this] { return connections_ == 0; };
  if (connections_ != 0 && is_of_no_use(options)) left_.wait_for(lock, kLeaveWait, nobody_left);
  const bool is_other = disk_ != nullptr && reference_ != options.reference;
  if (is_other && connections_ != 0) return Errc::exists;
  if (disk_ != nullptr && connections_ == 0) {
    VMS_TRY(const bool keep, may_keep(options));
    if (!keep) close_disk();
  }
  if (disk_ == nullptr) {
    VMS_TRY(disk_, client_->open(options));
    reference_ = options.reference;
  }
  if (connections_++ == 0) disk_->set_connected(true);
  return success();
}

bool ServedDisk::is_of_no_use(const disk::DiskOpenOptions& options) {
  return reference_ == options.reference && disk_->is_outdated() &&
         disk_->match_guest(options.guest_pid) == disk::GuestMatch::other;
}

Result<bool> ServedDisk::may_keep(const disk::DiskOpenOptions& options) {
  if (reference_ != options.reference) return false;
  const disk::GuestMatch match = disk_->match_guest(options.guest_pid);
  if (match == disk::GuestMatch::other) return false;
  // To a client that may not know that it is outdated it answers errors.
  if (!disk_->is_outdated()) return !has_other_size();
  const bool is_snapshot = options.reference.find('@') != std::string::npos;
  if (is_snapshot && match == disk::GuestMatch::unknown) return Errc::stale_token;
  return true;
}

void ServedDisk::close_disk() {
  // Fenced, or the node is away: what was acknowledged is in the batch file, and whoever opens the
  // disk next sees to it.
  const Result<void> closed = disk_->close();
  if (!closed) {
    VMS_LOG(warning, "nbd", reference_ << " was not given back: " << to_string(closed.error()));
  }
  disk_.reset();
}

bool ServedDisk::has_other_size() {
  if (disk_ == nullptr || disk_->info().read_only) return false;
  const auto now = client_->details(reference_);
  return now && now->size_bytes != disk_->info().size_bytes;
}

void ServedDisk::disconnect() noexcept {
  const std::scoped_lock lock(mutex_);
  if (--connections_ == 0 && !stopping_.load()) disk_->set_connected(false);
  left_.notify_all();
}

std::string ServedDisk::reference() const {
  const std::scoped_lock lock(mutex_);
  return reference_;
}

Result<void> ServedDisk::stop() {
  stopping_ = true;
  for (int open = requests_.load(); open != 0; open = requests_.load()) requests_.wait(open);
  const std::scoped_lock lock(mutex_);
  return disk_ == nullptr ? success() : disk_->close();
}

}  // namespace vmstore::nbd_plugin
