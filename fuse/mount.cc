// SPDX-License-Identifier: Apache-2.0
#include "fuse/mount.h"

#include <unistd.h>

namespace vmstore::fuse {
namespace {

constexpr blksize_t kBlockBytes = 4096;

/// Others get in only with --allow-other, and then the group may look.
mode_t mode_of(Kind kind, const MountOptions& options) noexcept {
  if (is_folder(kind)) return S_IFDIR | (options.allow_other ? 0750U : 0700U);
  const bool is_fixed = kind == Kind::snapshot || options.read_only;
  return S_IFREG | (is_fixed ? 0400U : 0600U) | (options.allow_other ? 0040U : 0U);
}

timespec to_timespec(WallTime time) noexcept {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(time - seconds);
  timespec result{};
  result.tv_sec = seconds.time_since_epoch().count();
  result.tv_nsec = rest.count();
  return result;
}

}  // namespace

struct stat Mount::attributes(Inode inode, const FileInfo& info) {
  struct stat shown {};
  shown.st_ino = inode.number;
  shown.st_mode = mode_of(info.place.kind, options_);
  shown.st_nlink = is_folder(info.place.kind) ? 2 : 1;
  shown.st_uid = geteuid();
  shown.st_gid = getegid();
  shown.st_blksize = kBlockBytes;
  if (is_folder(info.place.kind)) {
    shown.st_mtim = shown.st_ctim = shown.st_atim = to_timespec(mounted_);
    return shown;
  }
  shown.st_size = static_cast<off_t>(info.size_bytes);
  shown.st_blocks = static_cast<blkcnt_t>(block_count(info.size_bytes, info.mapped_bytes));
  shown.st_mtim = to_timespec(nodes_.note(inode, info, now()));
  shown.st_ctim = shown.st_mtim;
  shown.st_atim = shown.st_mtim;
  return shown;
}

Result<struct stat> Mount::attributes(Inode inode) {
  const auto node = nodes_.find(inode);
  if (!node) return Errc::conflict;
  VMS_TRY(const FileInfo info, listing_.find(node->place));
  if (info.identity != node->identity) return Errc::conflict;
  return attributes(inode, info);
}

fuse_entry_param Mount::entry(const FileInfo& info) {
  const Inode inode = nodes_.look_up(info, now());
  fuse_entry_param made{};
  made.ino = inode.number;
  made.generation = 0;  // numbers are never reused
  made.attr = attributes(inode, info);
  made.attr_timeout = kBelievedSeconds;
  made.entry_timeout = kBelievedSeconds;
  return made;
}

}  // namespace vmstore::fuse
