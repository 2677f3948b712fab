// SPDX-License-Identifier: Apache-2.0
// BlockingDisk: one open disk or snapshot for foreign threads (nbdkit workers, FUSE, the command
// line). The only class of disk/ that crosses threads.
//
// Promises: a returned write survives the death of this process (batch file, I13); flush() returns
// when everything returned before it is on stable storage on all replicas (I1, I2); reads give the
// newest returned data or an error (promise 4); trouble with the node is waited out, not returned,
// unless the disk was fenced or the wait bound of OpenOptions is over.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/result.h"
#include "meta/backup.h"

namespace vmstore::disk {

/// Paths of PEM files, for nodes on TCP: the store's authority, our certificate and its key.
struct ClientTls {
  std::string ca;
  std::string certificate;
  std::string key;
};

struct ClientConfig {
  /// Unix path or address:port, with or without tcp://; or several nodes of the store, with commas
  /// between them: whichever answers first serves the catalogue, the rest is found there.
  std::string endpoint;
  ClientTls tls;           // all of it for a TCP endpoint: there is no other way to be let in
  std::string program;     // for people
  std::string run_folder;  // tmpfs folder for batch files; empty = found as DESIGN 4.2 says
  std::chrono::milliseconds connect_timeout{5000};
};

struct DiskExtent {
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  bool zero = false;  // reads as zeros and takes no space
};

struct DiskOpenOptions {
  std::string reference;  // [GROUP/]NAME[@SNAP]
  bool read_only = false;
  std::optional<std::uint32_t> guest_pid;  // process id of the NBD client, if known
  bool bulk = false;  // import: no batch file, writes return when copied, flush at end
};

struct DiskInfo {
  DiskId id;
  std::string name;
  std::uint64_t size_bytes = 0;
  bool read_only = false;
  std::uint64_t taken_ns = 0;  // of a snapshot: what tells it from a later one of the same name
};

/// Whether two clients are one process.
enum class GuestMatch { same, other, unknown };

/// One process's session: an IoThread, a NodeClient, caches. THREADS: any.
class Client;

/// THREADS: any; calls may overlap. Offsets and sizes are bytes and need no alignment.
class BlockingDisk {
 public:
  virtual ~BlockingDisk() = default;
  [[nodiscard]] virtual const DiskInfo& info() const noexcept = 0;
  [[nodiscard]] virtual Result<void> read(std::uint64_t offset, MutableBytes into) = 0;
  [[nodiscard]] virtual Result<void> write(std::uint64_t offset, ByteSpan bytes, bool fua) = 0;
  /// Reads as zeros afterwards. `may_unmap` false: still no space is taken, zeros are metadata
  /// here.
  [[nodiscard]] virtual Result<void> zero(std::uint64_t offset, std::uint64_t bytes, bool fua) = 0;
  /// Discard: the same as zero() (I10: discarded blocks read as zeros).
  [[nodiscard]] virtual Result<void> trim(std::uint64_t offset, std::uint64_t bytes, bool fua) = 0;
  [[nodiscard]] virtual Result<void> flush() = 0;
  /// Extents that cover [offset, offset+bytes), clipped to it, adjacent equal ones merged; may stop
  /// early after `count_max` of them, always makes progress.
  [[nodiscard]] virtual Result<std::vector<DiskExtent>> extents(std::uint64_t offset,
                                                                std::uint64_t bytes,
                                                                std::size_t count_max) = 0;
  /// Brings the range into the cache.
  [[nodiscard]] virtual Result<void> prefetch(std::uint64_t offset, std::uint64_t bytes) = 0;
  /// Whether a guest is connected now: the hand-over rule of DESIGN 6. Snapshots ignore it.
  virtual void set_connected(bool connected) { static_cast<void>(connected); }
  /// The process with this id, beside the one that the disk was opened for.
  [[nodiscard]] virtual GuestMatch match_guest(std::optional<std::uint32_t> pid) const {
    static_cast<void>(pid);
    return GuestMatch::unknown;
  }
  /// What a client of it was answered is certain to hold no longer: the session was fenced, or
  /// another wrote after it did, or the snapshot is gone or another by now. A client that does not
  /// know gets errors from here on; for another one the disk is to be opened again.
  [[nodiscard]] virtual bool is_outdated() { return false; }
  /// Commits everything, checkpoints, gives the token back. The object is unusable afterwards.
  [[nodiscard]] virtual Result<void> close() = 0;
};

// ---- the catalogue, for people's commands ----

struct DiskSummary {
  DiskId id;
  std::string name;
  std::uint64_t size_bytes = 0;
  std::uint64_t created_ns = 0;  // since 1970
  std::string base_name;         // "parent@snap" or empty
  bool held = false;             // some session holds it now
  bool clean = true;             // released properly
  std::string holder;            // program of the holder
  std::uint32_t copies = 1;
  std::uint64_t epoch = 0;
};
struct SnapshotSummary {
  std::string disk;
  std::string name;
  std::uint64_t size_bytes = 0;
  std::uint64_t created_ns = 0;
  bool written_out = false;
};
struct TrashSummary {
  DiskId id;
  std::string name;
  std::uint64_t size_bytes = 0;
  std::uint64_t trashed_ns = 0;
};
struct VerifyReport {
  std::uint64_t blocks = 0;
  std::uint64_t bad_blocks = 0;
  std::vector<std::uint64_t> bad_offsets;  // first 100
};
struct VerifyControl {
  std::string snapshot;        // name of the cut that is read; empty: one by chance
  std::function<bool()> stop;  // asked between reads, on any thread; true: `interrupted`
};
struct RepairReport {
  bool needed = false;  // the log of the disk's open key is damaged, or the key as a whole
  bool done = false;
  std::uint64_t kept_sequence = 0;            // of the newest record that is kept
  std::optional<std::uint64_t> kept_time_ns;  // since 1970, when it was written
  std::uint64_t lost_records = 0;
  std::uint64_t lost_log_bytes = 0;
  std::string cut_path;  // in the node's data folder, without ".log" and ".data"; empty: nothing
  std::vector<std::string> lost_snapshots;  // parts of their views are in what is cut
  std::uint64_t lost_batches = 0;           // of a batch file on this host, set aside
};
struct SnapshotTiming {
  std::chrono::nanoseconds metadata{0};
  std::chrono::nanoseconds stall{0};
};
struct NodeStatus {
  std::string store;    // id, 32 hex digits
  std::string version;  // of the node's program
  std::string data_folder;
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
  std::uint64_t used_bytes = 0;       // allocated by the store's key files
  std::uint64_t unchecked_bytes = 0;  // of these, not looked at by a garbage collection yet
  std::uint64_t key_count = 0;
  std::uint64_t journal_bytes = 0;
  std::uint64_t journal_used_bytes = 0;
  std::uint64_t session_count = 0;
  std::chrono::milliseconds uptime{0};
  bool direct_io = true;
  std::vector<std::string> warnings;
};
/// A node of the store, as the catalogue and a look at it say.
struct NodeSummary {
  NodeId id;
  std::string address;  // where others reach it; empty: on its host only
  std::string zone;
  std::uint32_t weight = 0;
  std::string certificate;  // name in the one that it shows; empty: none is known
  bool up = false;          // it has a session with us
  bool home = false;        // the one that serves us the catalogue
  /// What it says of itself; none: it did not answer, or our role may not ask.
  std::optional<NodeStatus> status;
};
struct GcReport {
  std::uint64_t round = 0;
  std::uint64_t keys_deleted = 0;
  std::uint64_t blocks_punched = 0;
  std::uint64_t bytes_freed = 0;
  std::uint64_t blocks_live = 0;
  std::uint64_t pages_visited = 0;
};
using CatalogueEntry = meta::BackupEntry;

class Client {
 public:
  /// `invalid_argument`: a TCP endpoint without TLS, or files that cannot be used; the log says
  /// which. `permission`: the node does not take our certificate, or we not its.
  [[nodiscard]] static Result<std::unique_ptr<Client>> connect(const ClientConfig& config);
  virtual ~Client() = default;

  [[nodiscard]] virtual Result<std::unique_ptr<BlockingDisk>> open(const DiskOpenOptions& o) = 0;

  [[nodiscard]] virtual Result<DiskSummary> create(const std::string& name,
                                                   std::uint64_t bytes,
                                                   std::uint32_t copies) = 0;
  [[nodiscard]] virtual Result<std::vector<DiskSummary>> list() = 0;
  [[nodiscard]] virtual Result<DiskSummary> details(const std::string& name) = 0;
  /// Bytes of the disk that have content, shared with others or not. Walks the index, for two
  /// seconds at most; empty when that was not enough, or the disk's last session died.
  [[nodiscard]] virtual Result<std::optional<std::uint64_t>> mapped_bytes(
      const std::string& name) = 0;
  [[nodiscard]] virtual Result<std::vector<SnapshotSummary>> snapshots(const std::string& name) = 0;
  /// A running disk is asked through its holder, an idle one is cut here.
  [[nodiscard]] virtual Result<SnapshotTiming> snapshot(const std::string& name,
                                                        const std::string& snap) = 0;
  [[nodiscard]] virtual Result<void> remove_snapshot(const std::string& name,
                                                     const std::string& snap) = 0;
  [[nodiscard]] virtual Result<void> rollback(const std::string& name,
                                              const std::string& snap,
                                              bool force) = 0;
  /// `source` is NAME or NAME@SNAP; NAME alone takes a snapshot for it first. All or nothing.
  [[nodiscard]] virtual Result<void> clone(const std::string& source,
                                           const std::vector<std::string>& names) = 0;
  [[nodiscard]] virtual Result<void> resize(const std::string& name,
                                            std::uint64_t bytes,
                                            bool allow_shrink,
                                            bool force) = 0;
  [[nodiscard]] virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  [[nodiscard]] virtual Result<void> remove(const std::string& name, bool now, bool force) = 0;
  [[nodiscard]] virtual Result<std::vector<TrashSummary>> trash() = 0;
  [[nodiscard]] virtual Result<void> restore(const std::string& name, const std::string& as) = 0;
  /// Empty name: everything in the trash.
  [[nodiscard]] virtual Result<void> purge(const std::string& name) = 0;
  /// Reads every mapped block of a disk and its snapshots and checks its sum, through a snapshot of
  /// its own, which is removed again however this ends.
  [[nodiscard]] virtual Result<VerifyReport> verify(const std::string& name,
                                                    const VerifyControl& control) = 0;
  /// Ends the open key's log at its damage, when there is any, so that the disk opens with the
  /// longest prefix that is whole. Without `accept_loss` it only says what would be lost. `busy`:
  /// somebody holds the disk.
  [[nodiscard]] virtual Result<RepairReport> repair(const std::string& name, bool accept_loss) {
    return static_cast<void>(name), static_cast<void>(accept_loss), Errc::unsupported;
  }
  /// Fences whoever holds the disk; the next opener recovers it.
  [[nodiscard]] virtual Result<void> break_owner(const std::string& name) = 0;
  /// Sets a left-over batch file of this host aside. Returns how many acknowledged batches it held.
  [[nodiscard]] virtual Result<std::uint64_t> discard_batch_file(const std::string& name) = 0;

  [[nodiscard]] virtual Result<NodeStatus> node_status() { return Errc::unsupported; }
  /// All nodes, by address. One that gives no session within two seconds counts as down.
  [[nodiscard]] virtual Result<std::vector<NodeSummary>> nodes() { return Errc::unsupported; }
  /// One whole round; `dry_run` marks and counts and frees nothing.
  [[nodiscard]] virtual Result<GcReport> collect_garbage(bool dry_run) {
    return static_cast<void>(dry_run), Errc::unsupported;
  }
  /// Hands every entry of the catalogue to `page`, in key order, all of one revision, which is
  /// returned. An error of `page` ends the walk and is returned.
  using CataloguePage = std::function<Result<void>(const std::vector<CatalogueEntry>&)>;
  [[nodiscard]] virtual Result<std::uint64_t> export_catalogue(const CataloguePage& page) {
    return static_cast<void>(page), Errc::unsupported;
  }
  /// Puts a whole backup back. `foreign_store`: the backup is of another store. `exists`: the store
  /// has a disk, snapshot or trash entry that is not in the backup exactly so (an interrupted
  /// restore may be repeated). Counters only rise; entries of nodes stay as they are; names go
  /// last, so that no disk can be opened before the whole backup is there. `not_found`: keys
  /// that it names are gone; each is logged, nothing was changed. `unsupported` with `accept_loss`.
  [[nodiscard]] virtual Result<void> import_catalogue(const std::vector<CatalogueEntry>& entries,
                                                      bool accept_loss) {
    return static_cast<void>(entries), static_cast<void>(accept_loss), Errc::unsupported;
  }
};

}  // namespace vmstore::disk
