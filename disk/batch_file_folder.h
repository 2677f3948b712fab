// SPDX-License-Identifier: Apache-2.0
// Where batch files live: finding the tmpfs folder, locking, mapping, allocating (DESIGN 4.2).
//
// Invariants: the folder belongs to this user and is closed to others (0700); no symbolic link is
// followed; a file is used only under its exclusive lock, so a locked one has a living holder; a
// byte of the mapping is touched only after the file's space is allocated.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "disk/batch_file.h"

namespace vmstore::disk {

/// One batch file of this host, locked and mapped. THREADS: one; the mapping itself is used as
/// BatchFile says. OWNS: the descriptor with the lock, and the mapping.
class MappedBatchFile {
 public:
  MappedBatchFile(const MappedBatchFile&) = delete;
  MappedBatchFile& operator=(const MappedBatchFile&) = delete;
  /// Unlocks. The file stays: only remove() and set_aside() take it away.
  ~MappedBatchFile();

  /// True when no byte was ever stored in it: there is nothing to recover.
  [[nodiscard]] bool is_new() const noexcept { return bytes_ == 0; }
  /// Takes the space of the whole file, at the first write. `no_space` when tmpfs is full: then the
  /// session acknowledges a write only when it is committed. REQUIRES: is_new().
  [[nodiscard]] Result<void> allocate();
  /// The 8 MiB (a file left with another size is mapped as it is, to be refused by the scan).
  /// REQUIRES: !is_new(), or allocate() succeeded.
  [[nodiscard]] MutableBytes memory() const noexcept;
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Removes the file: everything in it is committed, or the disk is gone.
  [[nodiscard]] Result<void> remove();
  /// Renames the file so that no session finds it, and returns its new name.
  [[nodiscard]] Result<std::string> set_aside();

 private:
  friend Result<std::unique_ptr<MappedBatchFile>> open_batch_file(const std::string& run_folder,
                                                                  StoreId store,
                                                                  DiskId disk,
                                                                  bool create);
  MappedBatchFile(int folder_fd, std::string folder, std::string name) noexcept;
  [[nodiscard]] Result<void> open_and_lock(bool create);
  [[nodiscard]] Result<void> map();

  int folder_fd_;
  int fd_ = -1;
  std::byte* memory_ = nullptr;
  std::size_t bytes_ = 0;  // of the file; 0: new
  std::string name_;
  std::string path_;
};

/// Opens, locks and maps the batch file of a disk; makes it when `create` (else `not_found`).
/// `run_folder`: where to look; empty = /run/vmstore when that is a tmpfs folder of ours, else
/// /dev/shm/vmstore-<uid>. `busy`: a living process holds it. `permission`: the folder is open to
/// others or not ours.
[[nodiscard]] Result<std::unique_ptr<MappedBatchFile>> open_batch_file(
    const std::string& run_folder, StoreId store, DiskId disk, bool create);

/// This boot of this host, from /proc/sys/kernel/random/boot_id.
[[nodiscard]] Result<BootId> read_boot_id();
/// Start time of a living process; `not_found` when there is none.
[[nodiscard]] Result<GuestProcess> read_guest_process(std::uint32_t pid);

}  // namespace vmstore::disk
