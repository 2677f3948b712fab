// SPDX-License-Identifier: Apache-2.0
#include "fuse/open_disks.h"

#include <unistd.h>

#include <vector>

namespace vmstore::fuse {

Result<void> OpenDisk::open() {
  const std::unique_lock lock(mutex_);
  return open_locked();
}

Result<void> OpenDisk::open_locked() {
  if (disk_ != nullptr) return success();
  disk::DiskOpenOptions options;
  options.reference = reference_;
  // Who believes in what was written here is this process: its files end with it.
  options.guest_pid = static_cast<std::uint32_t>(getpid());
  VMS_TRY(auto opened, client_.open(options));
  const disk::DiskInfo& info = opened->info();
  if (Identity{info.id, info.taken_ns} != identity_) return Errc::conflict;
  disk_ = std::move(opened);
  disk_->set_connected(true);
  return success();
}

Result<void> OpenDisk::close() {
  const std::unique_lock lock(mutex_);
  return close_locked();
}

Result<void> OpenDisk::close_locked() {
  if (disk_ == nullptr) return success();
  disk_->set_connected(false);
  const Result<void> closed = disk_->close();
  disk_.reset();
  return closed;
}

Result<void> OpenDisk::resize(std::uint64_t bytes, bool may_shrink) {
  const std::unique_lock lock(mutex_);
  VMS_CHECK(open_locked());
  const disk::DiskInfo info = disk_->info();
  if (info.read_only) return Errc::read_only;
  if (bytes == info.size_bytes) return success();
  if (bytes < info.size_bytes && !may_shrink) return Errc::permission;
  VMS_CHECK(close_locked());
  const Result<void> resized = client_.resize(reference_, bytes, may_shrink, false);
  const Result<void> opened = open_locked();
  return resized ? opened : resized;
}

Result<std::shared_ptr<OpenDisk>> OpenDisks::open(const std::string& reference,
                                                  const Identity& identity) {
  std::shared_ptr<OpenDisk> disk;
  {
    const std::scoped_lock lock(mutex_);
    std::shared_ptr<OpenDisk>& slot = disks_[Key(reference, identity)];
    if (slot == nullptr) slot = std::make_shared<OpenDisk>(client_, reference, identity);
    ++slot->files_;
    disk = slot;
  }
  if (const Result<void> opened = disk->open(); !opened) {
    ignore(release(disk), "it did not open");
    return opened.error();
  }
  return disk;
}

Result<void> OpenDisks::release(const std::shared_ptr<OpenDisk>& disk) {
  {
    const std::scoped_lock lock(mutex_);
    if (--disk->files_ != 0) return success();
  }
  // A file that is opened meanwhile finds the same object and waits for this lock: it never gets a
  // disk that is about to close.
  const std::unique_lock disk_lock(disk->mutex_);
  {
    const std::scoped_lock lock(mutex_);
    if (disk->files_ != 0) return success();
  }
  const Result<void> closed = disk->close_locked();
  const std::scoped_lock lock(mutex_);
  const auto slot = disks_.find(Key(disk->reference_, disk->identity_));
  if (disk->files_ == 0 && slot != disks_.end() && slot->second == disk) disks_.erase(slot);
  return closed;
}

std::shared_ptr<OpenDisk> OpenDisks::find(const std::string& reference, const Identity& identity) {
  const std::scoped_lock lock(mutex_);
  const auto found = disks_.find(Key(reference, identity));
  return found == disks_.end() ? nullptr : found->second;
}

Result<void> OpenDisks::close_all() {
  std::vector<std::shared_ptr<OpenDisk>> left;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [key, disk] : disks_) left.push_back(disk);
  }
  Result<void> outcome = success();
  for (const auto& disk : left) {
    const Result<void> closed = disk->close();
    if (outcome && !closed) outcome = closed;
  }
  return outcome;
}

}  // namespace vmstore::fuse
