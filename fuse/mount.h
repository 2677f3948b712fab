// SPDX-License-Identifier: Apache-2.0
// Mount: one mounted view of the store, as the callbacks of libfuse see it.
//
// Invariants: disks are read and written past the kernel's page cache (FOPEN_DIRECT_IO), because a
// disk may be handed over to an NBD client and back between two reads; snapshots never change and
// are cached. No exception leaves a callback.
#pragma once

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>
#include <sys/stat.h>

#include <atomic>
#include <exception>
#include <memory>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "disk/disk.h"
#include "fuse/file_calls.h"
#include "fuse/listing.h"
#include "fuse/node_table.h"
#include "fuse/open_disks.h"

namespace vmstore::fuse {

/// How long the kernel believes what it was told of a name or a size, in seconds.
inline constexpr double kBelievedSeconds = 1.0;

struct MountOptions {
  bool allow_other = false;
  bool read_only = false;
};

/// THREADS: any. Does not own the client.
class Mount {
 public:
  Mount(disk::Client& client, const MountOptions& options) noexcept
      : client_(client), options_(options), listing_(client), open_disks_(client) {}

  [[nodiscard]] disk::Client& client() noexcept { return client_; }
  [[nodiscard]] Listing& listing() noexcept { return listing_; }
  [[nodiscard]] NodeTable& nodes() noexcept { return nodes_; }
  [[nodiscard]] OpenDisks& open_disks() noexcept { return open_disks_; }

  [[nodiscard]] static WallTime now() noexcept { return std::chrono::system_clock::now(); }
  /// What stat(2) shows of it.
  [[nodiscard]] struct stat attributes(Inode inode, const FileInfo& info);
  /// Of an inode that the kernel knows; `conflict` when its name means another file by now.
  [[nodiscard]] Result<struct stat> attributes(Inode inode);
  /// An answer to a look-up: counts as one.
  [[nodiscard]] fuse_entry_param entry(const FileInfo& info);

 private:
  disk::Client& client_;
  const MountOptions options_;
  const WallTime mounted_ = now();
  Listing listing_;
  NodeTable nodes_;
  OpenDisks open_disks_;
};

/// An open file.
struct FileHandle {
  std::shared_ptr<OpenDisk> disk;
  std::atomic<bool> wrote{false};  // since the last flush
};

/// An open folder: what it held when it was opened.
struct FolderHandle {
  std::vector<FileInfo> entries;
};

[[nodiscard]] inline Mount& mount_of(fuse_req_t request) noexcept {
  return *static_cast<Mount*>(fuse_req_userdata(request));
}

/// Runs a callback's body, which answers the request as the last thing it does, or returns an error
/// without having answered.
template <class F>
void answer(fuse_req_t request, const char* what, F body) noexcept {
  int os_errno = EIO;
  try {
    const Result<void> done = body(mount_of(request));
    if (done) return;
    os_errno = file_errno(done.error());
    if (os_errno == EIO || os_errno == EBUSY) {
      VMS_LOG(error, "fuse", what << ": " << to_string(done.error()));
    }
  } catch (const std::exception& thrown) {
    VMS_LOG(error, "fuse", what << ": " << thrown.what());
  } catch (...) {
    VMS_LOG(error, "fuse", what << ": unknown exception");
  }
  fuse_reply_err(request, os_errno);
}

void add_file_operations(fuse_lowlevel_ops& operations) noexcept;
void add_folder_operations(fuse_lowlevel_ops& operations) noexcept;

}  // namespace vmstore::fuse
