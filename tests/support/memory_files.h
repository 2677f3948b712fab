// SPDX-License-Identifier: Apache-2.0
// MemoryFiles: Files in memory with the faults of real devices: power cuts that keep, drop or tear
// what was not synced, full devices, failing calls, flipped bits.
//
// Invariants: contents and their syncs as in MemoryInode; a name that was made, renamed or removed
// and whose folder was not synced since may come back as it was; after freeze() every change is
// answered with success and ignored; after restart() or crash() the files opened before are dead.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/files.h"
#include "base/random.h"
#include "tests/support/memory_inode.h"

namespace vmstore::sim {

enum class FileOperation : std::uint8_t {
  open,
  read,
  write,
  sync,
  allocate,
  punch,
  truncate,
  rename,
  remove,
  make_folder,
  sync_folder,
  list,
};

/// Lets the n-th matching call fail, and with `repeat` every later one too.
struct FileFault {
  FileOperation operation = FileOperation::write;
  std::string path_part;  // in any path that contains it
  std::uint64_t nth = 1;
  Error error = Error(Errc::io_error, 5);  // EIO
  bool repeat = false;
};

/// THREADS: any (so that it can also stand behind a real ThreadPool).
class MemoryFiles final : public Files {
 public:
  static constexpr std::uint64_t kUnlimited = std::uint64_t{1} << 40;

  explicit MemoryFiles(std::uint64_t capacity_bytes = kUnlimited, std::uint64_t seed = 1);
  ~MemoryFiles() override;

  [[nodiscard]] Result<std::unique_ptr<File>> open(std::string_view path,
                                                   const OpenOptions& options) override;
  [[nodiscard]] Result<void> remove(std::string_view path) override;
  [[nodiscard]] Result<void> rename(std::string_view from, std::string_view to) override;
  [[nodiscard]] Result<void> make_folder(std::string_view path) override;
  [[nodiscard]] Result<std::vector<std::string>> list(std::string_view folder) override;
  [[nodiscard]] Result<void> sync_folder(std::string_view folder) override;
  [[nodiscard]] Result<FolderSpace> space() override;
  [[nodiscard]] bool used_direct() const noexcept override { return direct_; }

  // ---- death ----
  /// The instant of a kill: from now on changes are ignored. Callable from anywhere.
  void freeze() noexcept { frozen_ = true; }
  [[nodiscard]] bool is_frozen() const noexcept { return frozen_; }
  /// The process was killed and the host lives: nothing is lost, locks are free.
  void restart();
  /// The power went: each change that was not synced is kept, dropped or torn.
  void crash(Random& random);
  /// Freezes inside the `nth` change from now (1 = the next): it is begun, never synced and may be
  /// torn by crash(). Then calls `frozen`, which must not call back here other than freeze().
  void freeze_at_change(std::uint64_t nth, std::function<void()> frozen);
  /// Disarms freeze_at_change().
  void cancel_freeze() noexcept { changes_left_ = 0; }

  // ---- faults ----
  void fail(const FileFault& fault);
  void clear_faults();
  /// Flips a bit of what is stored; false where the file is missing or has a hole.
  bool flip_bit(std::string_view path, std::uint64_t offset, unsigned bit);
  void set_capacity(std::uint64_t bytes) noexcept { capacity_bytes_ = bytes; }
  /// read_cached() answers `busy` once in `n` calls; 0 = never.
  void set_uncached_one_in(std::uint64_t n) noexcept { uncached_one_in_ = n; }
  void set_direct(bool direct) noexcept { direct_ = direct; }

  // ---- observation ----
  [[nodiscard]] std::uint64_t used_bytes() const;
  /// Calls that changed something, synced or not, since the beginning.
  [[nodiscard]] std::uint64_t changes() const noexcept { return changes_; }
  /// Hash of all calls that changed something: part of a run's trace.
  [[nodiscard]] std::uint64_t history_hash() const noexcept { return history_hash_; }

 private:
  friend class MemoryFile;
  struct Folder;
  struct FileNode {
    MemoryInode inode;
    const void* locked_by = nullptr;
    std::uint32_t names = 0;  // in present folders
    std::uint32_t opens = 0;
    bool counted = false;  // whether its pages are in used_pages_
  };
  using FilePtr = std::shared_ptr<FileNode>;
  using FolderPtr = std::shared_ptr<Folder>;
  using Link = std::variant<std::monostate, FilePtr, FolderPtr>;
  using Names = std::map<std::string, Link, std::less<>>;
  struct Folder {
    Names present;
    Names durable;
  };
  struct Assignment {
    FolderPtr folder;
    std::string name;
    Link link;  // monostate: no such name
  };
  using NameChange = std::vector<Assignment>;  // kept or dropped as a whole
  struct Place {
    FolderPtr folder;
    std::string name;
  };
  struct PendingFault {
    FileFault fault;
    std::uint64_t left;
  };
  /// What a call that changes something shall do.
  enum class Fate : std::uint8_t { normal, ignored, last };

  // All REQUIRE: mutex_ held.
  [[nodiscard]] Result<FolderPtr> find_folder(std::string_view path) const;
  [[nodiscard]] Result<Place> place_of(std::string_view path) const;
  [[nodiscard]] static Link find_link(const Names& names, std::string_view name);
  [[nodiscard]] std::optional<Error> fault_for(FileOperation operation, std::string_view path);
  [[nodiscard]] Fate begin_change(FileOperation operation,
                                  std::string_view path,
                                  std::uint64_t offset,
                                  std::uint64_t length);
  void end_change(Fate fate);
  void assign(NameChange change);
  static void set_name(Names& names, const std::string& name, const Link& link);
  void settle_folder(Folder& folder, Random& random);
  [[nodiscard]] std::uint64_t free_pages() const noexcept;
  void recount_space();
  void count_if_unused(FileNode& file);

  mutable std::mutex mutex_;
  std::atomic<bool> frozen_{false};
  std::atomic<std::uint64_t> capacity_bytes_;
  Random random_;
  FolderPtr root_ = std::make_shared<Folder>();
  std::vector<NameChange> name_changes_;  // not durable yet, oldest first
  std::uint64_t generation_ = 1;          // of open files
  std::uint64_t used_pages_ = 0;
  std::uint64_t uncached_one_in_ = 0;
  bool direct_ = true;
  std::vector<PendingFault> faults_;
  std::uint64_t changes_ = 0;
  std::uint64_t changes_left_ = 0;  // 0 = not armed
  std::function<void()> frozen_callback_;
  std::uint64_t history_hash_ = 0;
};

}  // namespace vmstore::sim
