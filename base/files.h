// SPDX-License-Identifier: Apache-2.0
// Files: the seam for a folder of files. Production: PosixFiles, rooted at one directory
// descriptor. Simulation: MemoryFiles with crashes, torn writes and faults.
//
// Invariants: paths are relative, made of [a-z0-9._/-], never contain ".." (is_valid_path(); others
// are `invalid_argument`), never follow symbolic links (`foreign_store`); what is not synced may be
// lost by a crash in any 512-byte piece; a new, renamed or removed name is durable only after
// sync_folder() of its folder.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"

namespace vmstore {

/// One open file. THREADS: any, calls may overlap. All offsets and lengths are bytes.
class File {
 public:
  File() = default;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  virtual ~File() = default;

  /// Reads up to `into.size()` bytes; fewer only at the end of the file.
  [[nodiscard]] virtual Result<std::size_t> read(std::uint64_t offset, MutableBytes into) = 0;
  /// Reads only what needs no device: `busy` when it would have to wait.
  [[nodiscard]] virtual Result<std::size_t> read_cached(std::uint64_t offset,
                                                        MutableBytes into) = 0;
  /// Writes all of it or fails.
  [[nodiscard]] virtual Result<void> write(std::uint64_t offset, ByteSpan bytes) = 0;
  /// write() for much that is synced next and not soon read: past the page cache where offset,
  /// length and memory are multiples of 4 KiB and the file system can. No more durable than
  /// write().
  [[nodiscard]] virtual Result<void> write_uncached(std::uint64_t offset, ByteSpan bytes) {
    return write(offset, bytes);
  }
  /// Data and what is needed to read it back are on stable storage. After a failure nothing about
  /// earlier writes may be believed, and the call must not be tried again on this file.
  [[nodiscard]] virtual Result<void> sync() = 0;
  /// Makes space durable-ly available for [offset, offset+length) without changing the size.
  [[nodiscard]] virtual Result<void> allocate(std::uint64_t offset, std::uint64_t length) = 0;
  /// Gives the space back; the range then reads as zeros. Size unchanged.
  [[nodiscard]] virtual Result<void> punch(std::uint64_t offset, std::uint64_t length) = 0;
  [[nodiscard]] virtual Result<void> truncate(std::uint64_t size) = 0;
  [[nodiscard]] virtual Result<std::uint64_t> size() = 0;
  /// Bytes of space the file takes on the device.
  [[nodiscard]] virtual Result<std::uint64_t> allocated_bytes() = 0;
  /// Exclusive advisory lock for this process (flock); `busy` when another holds it.
  [[nodiscard]] virtual Result<void> lock() = 0;
  /// The descriptor, for passing to another process; -1 where there is none.
  [[nodiscard]] virtual int descriptor() const noexcept { return -1; }
};

struct OpenOptions {
  bool create = false;       // make it if it is not there (mode 0600)
  bool must_be_new = false;  // with create: `exists` if it is there
  bool write = true;         // false: read only
  /// O_DIRECT|O_DSYNC; falls back to O_DSYNC, see used_direct(). Offsets, lengths and memory must
  /// be multiples of 4 KiB (devices with 4 KiB sectors refuse less).
  bool direct_sync = false;
};

struct FolderSpace {
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;  // what this user may still use
};

/// A folder tree. THREADS: any.
class Files {
 public:
  Files() = default;
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;
  virtual ~Files() = default;

  [[nodiscard]] virtual Result<std::unique_ptr<File>> open(std::string_view path,
                                                           const OpenOptions& options) = 0;
  [[nodiscard]] virtual Result<void> remove(std::string_view path) = 0;
  /// Replaces `to` atomically if it is there.
  [[nodiscard]] virtual Result<void> rename(std::string_view from, std::string_view to) = 0;
  /// Creates the folder (mode 0700) if it is not there; parents must exist.
  [[nodiscard]] virtual Result<void> make_folder(std::string_view path) = 0;
  /// Names (not paths) in the folder, sorted; "" is the root.
  [[nodiscard]] virtual Result<std::vector<std::string>> list(std::string_view folder) = 0;
  [[nodiscard]] virtual Result<void> sync_folder(std::string_view folder) = 0;
  [[nodiscard]] virtual Result<FolderSpace> space() = 0;
  /// False when the file system refused O_DIRECT (then O_DSYNC alone is used).
  [[nodiscard]] virtual bool used_direct() const noexcept = 0;
};

/// True for what every Files takes as a path: parts of [a-z0-9._-], none empty, "." or "..", joined
/// by single slashes, at most 255 characters in all.
[[nodiscard]] bool is_valid_path(std::string_view path) noexcept;

/// Reads a whole small file; `corrupt` when it is larger than `bytes_max`.
[[nodiscard]] Result<std::vector<std::byte>> read_file(Files& files,
                                                       std::string_view path,
                                                       std::size_t bytes_max);
/// Replaces a small file so that a crash leaves the old or the new content: write beside, sync,
/// rename, sync the folder.
[[nodiscard]] Result<void> replace_file(Files& files, std::string_view path, ByteSpan content);

}  // namespace vmstore
