// SPDX-License-Identifier: Apache-2.0
// Admin: the verbs on disks that are not I/O: create, clone, remove, rename, resize, rollback, …
//
// Invariants: what others can see changes in one transaction per step; a command that dies between
// two steps leaves something that the next command or the trash shows, never an orphan (I12);
// a disk that somebody holds, or that was not released cleanly, is busy unless forced (R18).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "disk/async_disk.h"
#include "disk/disk.h"
#include "disk/session.h"

namespace vmstore::disk {

/// THREADS: the scheduler's.
class Admin {
 public:
  explicit Admin(Session& session) : session_(session), catalogue_(session.catalogue()) {}

  [[nodiscard]] Task<Result<DiskSummary>> create(std::string name,
                                                 std::uint64_t bytes,
                                                 std::uint32_t copies);
  [[nodiscard]] Task<Result<std::vector<DiskSummary>>> list();
  [[nodiscard]] Task<Result<DiskSummary>> details(std::string name);
  /// As Client::mapped_bytes().
  [[nodiscard]] Task<Result<std::optional<std::uint64_t>>> mapped_bytes(std::string name);
  [[nodiscard]] Task<Result<std::vector<SnapshotSummary>>> snapshots(std::string name);
  [[nodiscard]] Task<Result<SnapshotTiming>> snapshot(std::string name, std::string snap);
  [[nodiscard]] Task<Result<void>> remove_snapshot(std::string name, std::string snap);
  [[nodiscard]] Task<Result<void>> rollback(std::string name, std::string snap, bool force);
  [[nodiscard]] Task<Result<void>> clone(std::string source, std::vector<std::string> names);
  [[nodiscard]] Task<Result<void>> resize(std::string name,
                                          std::uint64_t bytes,
                                          bool allow_shrink,
                                          bool force);
  [[nodiscard]] Task<Result<void>> rename(std::string from, std::string to);
  [[nodiscard]] Task<Result<void>> remove(std::string name, bool now, bool force);
  [[nodiscard]] Task<Result<std::vector<TrashSummary>>> trash();
  [[nodiscard]] Task<Result<void>> restore(std::string name, std::string as);
  [[nodiscard]] Task<Result<void>> purge(std::string name);
  [[nodiscard]] Task<Result<VerifyReport>> verify(std::string name, VerifyControl control);
  [[nodiscard]] Task<Result<RepairReport>> repair(std::string name, bool accept_loss);
  [[nodiscard]] Task<Result<void>> break_owner(std::string name);
  [[nodiscard]] Task<Result<std::uint64_t>> discard_batch_file(std::string name);

  [[nodiscard]] Task<Result<NodeStatus>> node_status();
  /// As Client::nodes().
  [[nodiscard]] Task<Result<std::vector<NodeSummary>>> nodes();
  [[nodiscard]] Task<Result<GcReport>> collect_garbage(bool dry_run);
  [[nodiscard]] Task<Result<std::uint64_t>> export_catalogue(Client::CataloguePage page);
  [[nodiscard]] Task<Result<void>> import_catalogue(std::vector<CatalogueEntry> entries,
                                                    bool accept_loss);

  /// The session's object for a disk, the open one or a new one, with a user more: the caller ends
  /// with AsyncDisk::leave() or drop().
  [[nodiscard]] std::shared_ptr<AsyncDisk> open(const VersionedDisk& disk,
                                                const AsyncDiskOptions& options);
  /// open() for a front end. A disk whose last session died is recovered first, if nobody holds it:
  /// only its log knows its size.
  [[nodiscard]] Task<Result<std::shared_ptr<AsyncDisk>>> open_for_guest(VersionedDisk disk,
                                                                        AsyncDiskOptions options);

 private:
  [[nodiscard]] Task<Result<DiskSummary>> summarize(const VersionedDisk& disk);
  /// A disk that nobody holds, and that its last holder released. A holder without a client gives
  /// it back; else `busy`, unless forced: then the holder is told to commit and leave, whatever its
  /// guest does, and one that does not is fenced, and no longer waited for than a lease lasts.
  [[nodiscard]] Task<Result<VersionedDisk>> free_to_change(std::string name, bool force);
  /// `busy`: it has a client (and !force), or does not answer. Nobody there is success.
  [[nodiscard]] Task<Result<void>> ask_holder_to_leave(DiskId id, bool force);
  /// From here on no append of the owner is accepted (I3).
  [[nodiscard]] Task<Result<void>> fence_owner(DiskId id);
  /// Until a fenced holder on this host has let go of its batch file. `busy`: it does not.
  [[nodiscard]] Task<Result<void>> wait_for_fenced(DiskId id);
  [[nodiscard]] Task<Result<SnapshotTiming>> snapshot_of(VersionedDisk disk,
                                                         std::string snap,
                                                         bool written_out);
  /// After a holder's refusal: success, a moment later, when it did nothing and the command may
  /// begin again. It is giving the disk back, went away (then it is ours to do), or its node has
  /// just started and waits for it; a silent holder's disk is not cut by anybody without its token
  /// [H8]. Else the error that the command ends with.
  [[nodiscard]] Task<Result<void>> before_asking_again(Error error, TimePoint deadline);
  /// `holder_may`: a session that holds the disk does it for us.
  [[nodiscard]] Task<Result<void>> resize_object(AsyncDisk& object,
                                                 std::uint64_t bytes,
                                                 bool holder_may);
  /// All of `names`, or none, in one transaction.
  [[nodiscard]] Task<Result<void>> commit_clones(const VersionedDisk& source,
                                                 std::string snap,
                                                 std::string base_name,
                                                 std::vector<std::string> names);
  [[nodiscard]] Task<Result<void>> make_clones(const VersionedDisk& source,
                                               std::string snap,
                                               std::string base_name,
                                               std::vector<std::string> names);
  [[nodiscard]] Task<Result<void>> purge_one(VersionedDisk disk);
  [[nodiscard]] Task<Result<std::vector<DiskExtent>>> extents_of_holder(DiskId id,
                                                                        std::uint64_t offset,
                                                                        std::uint64_t bytes);
  [[nodiscard]] Task<Result<void>> verify_snapshot(DiskId id,
                                                   std::string name,
                                                   const VerifyControl& control,
                                                   VerifyReport& report);
  [[nodiscard]] Task<Result<NodeStatus>> status_of(net::NodeClient& node);
  /// How many acknowledged batches were in it; empty: there is none.
  [[nodiscard]] Result<std::optional<std::uint64_t>> set_batch_file_aside(DiskId id);
  /// What a repair by the node would keep of the disk's open key, or has kept.
  [[nodiscard]] Task<Result<RepairReport>> repair_key(VersionedDisk disk, bool accept_loss);
  /// `not_found` when a key that the entries name is gone; each is logged.
  [[nodiscard]] Task<Result<void>> check_named_keys(std::vector<CatalogueEntry> entries);
  [[nodiscard]] Task<Result<void>> raise_key_counter(std::uint64_t next);
  [[nodiscard]] std::uint64_t wall_ns() const;

  Session& session_;
  Catalogue& catalogue_;
  std::map<DiskId, std::weak_ptr<AsyncDisk>> open_;
};

}  // namespace vmstore::disk
