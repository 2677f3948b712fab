// SPDX-License-Identifier: Apache-2.0
// Client and BlockingDisk for foreign threads: the one bridge into the session's thread.
//
// A request that finds everything at hand completes on the calling thread; any other posts once to
// the session's thread, waits on a semaphore there, and returns (a hop costs 3-8 us, DESIGN 11).
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "base/limits.h"
#include "base/log.h"
#include "base/random.h"
#include "base/units.h"
#include "disk/admin.h"
#include "disk/async_disk.h"
#include "disk/batch_file_folder.h"
#include "disk/disk.h"
#include "disk/snapshot_disk.h"
#include "net/asio_transport.h"
#include "net/block_on.h"
#include "net/io_thread.h"
#include "net/socket_address.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

/// Real batch files.
class FolderBatchHandle final : public BatchHandle {
 public:
  explicit FolderBatchHandle(std::unique_ptr<MappedBatchFile> file) : file_(std::move(file)) {}
  [[nodiscard]] bool is_new() const noexcept override { return file_->is_new(); }
  [[nodiscard]] Result<void> allocate() override { return file_->allocate(); }
  [[nodiscard]] MutableBytes memory() const noexcept override { return file_->memory(); }
  [[nodiscard]] Result<void> remove() override { return file_->remove(); }
  [[nodiscard]] Result<std::string> set_aside() override { return file_->set_aside(); }

 private:
  std::unique_ptr<MappedBatchFile> file_;
};

class FolderBatchHome final : public BatchHome {
 public:
  explicit FolderBatchHome(std::string folder) : folder_(std::move(folder)) {}
  [[nodiscard]] Result<std::unique_ptr<BatchHandle>> open(StoreId store,
                                                          DiskId disk,
                                                          bool create) override {
    VMS_TRY(auto file, open_batch_file(folder_, store, disk, create));
    return std::unique_ptr<BatchHandle>(std::make_unique<FolderBatchHandle>(std::move(file)));
  }

 private:
  std::string folder_;
};

using TlsPtr = std::shared_ptr<const net::TlsContext>;

net::TlsFiles tls_files(const ClientConfig& config) {
  return {config.tls.ca, config.tls.certificate, config.tls.key};
}

/// Null for unix sockets alone, without files or with some that cannot be used.
Result<TlsPtr> load_tls(const ClientConfig& config) {
  const net::TlsFiles files = tls_files(config);
  const std::vector<std::string> endpoints = split_endpoints(config.endpoint);
  if (endpoints.empty()) return Errc::invalid_argument;
  bool is_needed = false;
  for (const std::string& text : endpoints) {
    const auto address = net::parse_endpoint(net::Endpoint{text}, net::Reach::everywhere);
    if (!address) return address.error();
    is_needed = is_needed || !address->is_unix();
    if (address->is_unix() || files.complete()) continue;
    VMS_LOG(error, "tls", text << " needs a certificate: tls-ca, tls-cert and tls-key");
    return Errc::invalid_argument;
  }
  if (!files.complete()) return TlsPtr();
  auto loaded = net::TlsContext::load(files);
  return loaded || is_needed ? loaded : TlsPtr();
}

/// Dials with the certificate that lies there now: a guest's session outlives many. Without one it
/// reaches the node of this host only.
class FreshDialer final : public net::Dialer {
 public:
  FreshDialer(net::IoThread& io, TlsPtr tls, net::TlsFiles files)
      : io_(io), tls_(std::move(tls)), files_(std::move(files)) {}
  [[nodiscard]] Task<Result<std::unique_ptr<net::Connection>>> dial(
      net::Endpoint endpoint) override {
    if (tls_) {
      auto fresh = net::TlsContext::load(files_);
      if (fresh) tls_ = std::move(*fresh);  // else the last good one may still do
    } else if (const auto address = net::parse_endpoint(endpoint, net::Reach::everywhere);
               address && !address->is_unix()) {
      if (!std::exchange(told_, true)) {
        VMS_LOG(warning,
                "tls",
                "the store has other nodes, at " << endpoint.text
                                                 << ": they need tls-ca, tls-cert and tls-key");
      }
      co_return Errc::unavailable;
    }
    net::AsioDialer dialer(io_, tls_);
    co_return co_await dialer.dial(std::move(endpoint));
  }

 private:
  net::IoThread& io_;
  TlsPtr tls_;  // null: unix sockets only
  net::TlsFiles files_;
  bool told_ = false;
};

/// Everything of one session; lives on the heap, its tasks on the thread.
struct Core {
  net::IoThread thread;
  FreshDialer dialer;
  net::NodeClient node;
  net::NodePool nodes;
  FolderBatchHome batches;
  Session session;
  Admin admin;

  Core(const ClientConfig& config, TlsPtr tls, BootId boot)
      : thread("vmstore-disk"),
        dialer(thread, std::move(tls), tls_files(config)),
        node(thread, dialer, client_options(config, boot)),
        nodes(thread, dialer, node, client_options(config, boot)),
        batches(config.run_folder),
        session(thread, nodes, batches, session_options(boot)),
        admin(session) {}

  static net::ClientOptions client_options(const ClientConfig& config, BootId boot) {
    net::ClientOptions options;
    for (std::string& text : split_endpoints(config.endpoint)) {
      options.more.push_back(net::Endpoint{std::move(text)});
    }
    options.endpoint = options.more.front();
    options.more.erase(options.more.begin());
    options.program = config.program;
    options.boot = boot;
    options.pid = static_cast<std::uint32_t>(::getpid());
    return options;
  }
  static SessionOptions session_options(BootId boot) {
    SessionOptions options;
    options.boot = boot;
    return options;
  }

  /// Runs a task on the session's thread and waits for its result. THREADS: any but the session's.
  template <class T>
  [[nodiscard]] T run(Task<T> task) {
    return net::block_on(thread, std::move(task));
  }
};

GuestMatch match(const std::optional<GuestProcess>& known, std::optional<std::uint32_t> pid) {
  if (!known || !pid) return GuestMatch::unknown;
  const auto other = read_guest_process(*pid);
  if (!other) return GuestMatch::unknown;
  return *other == *known ? GuestMatch::same : GuestMatch::other;
}

class OpenDisk final : public BlockingDisk {
 public:
  OpenDisk(Core& core,
           std::shared_ptr<AsyncDisk> disk,
           DiskInfo info,
           std::optional<GuestProcess> guest)
      : core_(core), disk_(std::move(disk)), info_(std::move(info)), guest_(guest) {}
  OpenDisk(const OpenDisk&) = delete;
  OpenDisk& operator=(const OpenDisk&) = delete;
  ~OpenDisk() override {
    if (!closed_) ignore(core_.run(drop(*disk_)), "as if the process had been killed");
  }

  [[nodiscard]] const DiskInfo& info() const noexcept override { return info_; }
  void set_connected(bool connected) override { disk_->set_connected(connected); }
  [[nodiscard]] GuestMatch match_guest(std::optional<std::uint32_t> pid) const override {
    return match(guest_, pid);
  }
  [[nodiscard]] bool is_outdated() override {
    const Result<bool> outdated = core_.run(disk_->is_outdated());
    return outdated && *outdated;
  }

  Result<void> read(std::uint64_t offset, MutableBytes into) override {
    VMS_CHECK(check_range(offset, into.size()));
    const Request request(*disk_);
    if (into.empty() || disk_->try_read(offset, into)) return success();
    return core_.run(disk_->read(offset, into));
  }
  Result<void> write(std::uint64_t offset, ByteSpan bytes, bool fua) override {
    VMS_CHECK(check_write(offset, bytes.size()));
    const Request request(*disk_);
    if (!disk_->try_write(offset, bytes)) {
      VMS_CHECK(core_.run(disk_->write(offset, bytes)));
    }
    return fua ? flush_now() : success();
  }
  Result<void> zero(std::uint64_t offset, std::uint64_t bytes, bool fua) override {
    VMS_CHECK(check_write(offset, bytes));
    if (bytes == 0) return success();
    const Request request(*disk_);
    if (!disk_->try_zero(offset, bytes)) {
      VMS_CHECK(core_.run(disk_->zero(offset, bytes)));
    }
    return fua ? flush_now() : success();
  }
  Result<void> trim(std::uint64_t offset, std::uint64_t bytes, bool fua) override {
    return zero(offset, bytes, fua);
  }
  Result<void> flush() override {
    const Request request(*disk_);
    return flush_now();
  }
  Result<std::vector<DiskExtent>> extents(std::uint64_t offset,
                                          std::uint64_t bytes,
                                          std::size_t count_max) override {
    VMS_CHECK(check_range(offset, bytes));
    if (bytes == 0) return std::vector<DiskExtent>();
    const Request request(*disk_);
    return core_.run(disk_->extents(offset, bytes, count_max));
  }
  Result<void> prefetch(std::uint64_t offset, std::uint64_t bytes) override {
    VMS_CHECK(check_range(offset, bytes));
    std::vector<std::byte> scratch(std::min<std::uint64_t>(bytes, limits::kMiB));
    for (std::uint64_t at = 0; at < bytes; at += scratch.size()) {
      const auto count = std::min<std::uint64_t>(scratch.size(), bytes - at);
      VMS_CHECK(read(offset + at, MutableBytes(scratch).first(count)));
    }
    return success();
  }
  Result<void> close() override {
    if (std::exchange(closed_, true)) return success();
    return core_.run(disk_->leave());
  }

 private:
  /// Counts guest requests for the hand-over rule.
  class Request {
   public:
    explicit Request(AsyncDisk& disk) noexcept : disk_(disk) { disk_.note_request_begin(); }
    Request(const Request&) = delete;
    Request& operator=(const Request&) = delete;
    ~Request() { disk_.note_request_end(); }

   private:
    AsyncDisk& disk_;
  };
  static Task<Result<void>> drop(AsyncDisk& disk) {
    co_await disk.drop();
    co_return success();
  }
  Result<void> flush_now() {
    if (disk_->try_flush()) return success();
    return core_.run(disk_->flush());
  }
  [[nodiscard]] Result<void> check_range(std::uint64_t offset, std::uint64_t bytes) const {
    if (offset > info_.size_bytes || bytes > info_.size_bytes - offset) {
      return Errc::invalid_argument;
    }
    return success();
  }
  [[nodiscard]] Result<void> check_write(std::uint64_t offset, std::uint64_t bytes) const {
    if (info_.read_only) return Errc::read_only;
    return check_range(offset, bytes);
  }

  Core& core_;
  std::shared_ptr<AsyncDisk> disk_;
  const DiskInfo info_;
  const std::optional<GuestProcess> guest_;
  bool closed_ = false;
};

class OpenSnapshot final : public BlockingDisk {
 public:
  OpenSnapshot(Core& core,
               std::unique_ptr<SnapshotDisk> disk,
               DiskInfo info,
               std::optional<GuestProcess> guest)
      : core_(core), disk_(std::move(disk)), info_(std::move(info)), guest_(guest) {}

  [[nodiscard]] const DiskInfo& info() const noexcept override { return info_; }
  [[nodiscard]] GuestMatch match_guest(std::optional<std::uint32_t> pid) const override {
    return match(guest_, pid);
  }
  [[nodiscard]] bool is_outdated() override {
    const Result<bool> outdated = core_.run(disk_->is_outdated());
    return outdated && *outdated;
  }
  Result<void> read(std::uint64_t offset, MutableBytes into) override {
    VMS_CHECK(check_range(offset, into.size()));
    if (into.empty() || disk_->try_read(offset, into)) return success();
    return core_.run(disk_->read(offset, into));
  }
  Result<void> write(std::uint64_t /*offset*/, ByteSpan /*bytes*/, bool /*fua*/) override {
    return Errc::read_only;
  }
  Result<void> zero(std::uint64_t /*offset*/, std::uint64_t /*bytes*/, bool /*fua*/) override {
    return Errc::read_only;
  }
  Result<void> trim(std::uint64_t /*offset*/, std::uint64_t /*bytes*/, bool /*fua*/) override {
    return Errc::read_only;
  }
  Result<void> flush() override { return success(); }
  Result<std::vector<DiskExtent>> extents(std::uint64_t offset,
                                          std::uint64_t bytes,
                                          std::size_t count_max) override {
    VMS_CHECK(check_range(offset, bytes));
    if (bytes == 0) return std::vector<DiskExtent>();
    return core_.run(disk_->extents(offset, bytes, count_max));
  }
  Result<void> prefetch(std::uint64_t offset, std::uint64_t bytes) override {
    return check_range(offset, bytes);
  }
  Result<void> close() override { return success(); }

 private:
  [[nodiscard]] Result<void> check_range(std::uint64_t offset, std::uint64_t bytes) const {
    if (offset > info_.size_bytes || bytes > info_.size_bytes - offset) {
      return Errc::invalid_argument;
    }
    return success();
  }
  Core& core_;
  std::unique_ptr<SnapshotDisk> disk_;
  const DiskInfo info_;
  const std::optional<GuestProcess> guest_;
};

class RealClient final : public Client {
 public:
  RealClient(const ClientConfig& config, TlsPtr tls, BootId boot)
      : core_(std::make_unique<Core>(config, std::move(tls), boot)),
        timeout_(config.connect_timeout) {}
  RealClient(const RealClient&) = delete;
  RealClient& operator=(const RealClient&) = delete;
  ~RealClient() override {
    const Result<void> stopped = core_->run(shut_down());
    ignore(stopped, "nothing left to tell");
    core_->thread.stop();
  }

  Result<void> start() { return core_->run(begin()); }

  Result<std::unique_ptr<BlockingDisk>> open(const DiskOpenOptions& options) override {
    return core_->run(open_task(options));
  }
  Result<DiskSummary> create(const std::string& name,
                             std::uint64_t bytes,
                             std::uint32_t copies) override {
    return core_->run(core_->admin.create(name, bytes, copies));
  }
  Result<std::vector<DiskSummary>> list() override { return core_->run(core_->admin.list()); }
  Result<DiskSummary> details(const std::string& name) override {
    return core_->run(core_->admin.details(name));
  }
  Result<std::optional<std::uint64_t>> mapped_bytes(const std::string& name) override {
    return core_->run(core_->admin.mapped_bytes(name));
  }
  Result<std::vector<SnapshotSummary>> snapshots(const std::string& name) override {
    return core_->run(core_->admin.snapshots(name));
  }
  Result<SnapshotTiming> snapshot(const std::string& name, const std::string& snap) override {
    return core_->run(core_->admin.snapshot(name, snap));
  }
  Result<void> remove_snapshot(const std::string& name, const std::string& snap) override {
    return core_->run(core_->admin.remove_snapshot(name, snap));
  }
  Result<void> rollback(const std::string& name, const std::string& snap, bool force) override {
    return core_->run(core_->admin.rollback(name, snap, force));
  }
  Result<void> clone(const std::string& source, const std::vector<std::string>& names) override {
    return core_->run(core_->admin.clone(source, names));
  }
  Result<void> resize(const std::string& name,
                      std::uint64_t bytes,
                      bool allow_shrink,
                      bool force) override {
    return core_->run(core_->admin.resize(name, bytes, allow_shrink, force));
  }
  Result<void> rename(const std::string& from, const std::string& to) override {
    return core_->run(core_->admin.rename(from, to));
  }
  Result<void> remove(const std::string& name, bool now, bool force) override {
    return core_->run(core_->admin.remove(name, now, force));
  }
  Result<std::vector<TrashSummary>> trash() override { return core_->run(core_->admin.trash()); }
  Result<void> restore(const std::string& name, const std::string& as) override {
    return core_->run(core_->admin.restore(name, as));
  }
  Result<void> purge(const std::string& name) override {
    return core_->run(core_->admin.purge(name));
  }
  Result<VerifyReport> verify(const std::string& name, const VerifyControl& control) override {
    return core_->run(core_->admin.verify(name, control));
  }
  Result<RepairReport> repair(const std::string& name, bool accept_loss) override {
    return core_->run(core_->admin.repair(name, accept_loss));
  }
  Result<void> break_owner(const std::string& name) override {
    return core_->run(core_->admin.break_owner(name));
  }
  Result<std::uint64_t> discard_batch_file(const std::string& name) override {
    return core_->run(core_->admin.discard_batch_file(name));
  }
  Result<NodeStatus> node_status() override { return core_->run(core_->admin.node_status()); }
  Result<std::vector<NodeSummary>> nodes() override { return core_->run(core_->admin.nodes()); }
  Result<GcReport> collect_garbage(bool dry_run) override {
    return core_->run(core_->admin.collect_garbage(dry_run));
  }
  Result<std::uint64_t> export_catalogue(const CataloguePage& page) override {
    return core_->run(core_->admin.export_catalogue(page));
  }
  Result<void> import_catalogue(const std::vector<CatalogueEntry>& entries,
                                bool accept_loss) override {
    return core_->run(core_->admin.import_catalogue(entries, accept_loss));
  }

 private:
  [[nodiscard]] Task<Result<void>> begin() {
    core_->node.start();
    co_return co_await core_->session.start(core_->thread.now() + Duration(timeout_));
  }
  [[nodiscard]] Task<Result<void>> shut_down() {
    co_await core_->session.stop();
    co_await core_->node.stop();
    co_return success();
  }
  [[nodiscard]] Task<Result<std::unique_ptr<BlockingDisk>>> open_task(DiskOpenOptions options);

  std::unique_ptr<Core> core_;
  std::chrono::milliseconds timeout_;
};

Task<Result<std::unique_ptr<BlockingDisk>>> RealClient::open_task(DiskOpenOptions options) {
  VMS_CO_TRY(const auto reference, parse_disk_reference(options.reference));
  VMS_CO_TRY(const auto disk, co_await core_->session.catalogue().disk_by_name(reference.disk));
  DiskInfo info;
  info.id = disk_id_of(disk.record);
  info.name = options.reference;
  info.read_only = options.read_only;
  info.size_bytes = disk.record.size_bytes();
  std::optional<GuestProcess> guest;
  if (options.guest_pid) {
    const auto found = read_guest_process(*options.guest_pid);
    if (found) guest = *found;
  }
  if (!reference.snapshot.empty()) {
    auto opened = std::make_unique<SnapshotDisk>(core_->session);
    VMS_CO_CHECK(co_await opened->open_snapshot(info.id, reference.snapshot));
    info.size_bytes = opened->size_bytes();
    info.read_only = true;
    info.taken_ns = opened->taken_ns();
    std::unique_ptr<BlockingDisk> result =
        std::make_unique<OpenSnapshot>(*core_, std::move(opened), info, guest);
    co_return std::move(result);
  }
  AsyncDiskOptions disk_options;
  disk_options.bulk = options.bulk;
  disk_options.guest = guest;
  VMS_CO_TRY(auto object, co_await core_->admin.open_for_guest(disk, disk_options));
  info.size_bytes = object->size_bytes();
  std::unique_ptr<BlockingDisk> result =
      std::make_unique<OpenDisk>(*core_, std::move(object), info, guest);
  co_return std::move(result);
}

}  // namespace

Result<std::unique_ptr<Client>> Client::connect(const ClientConfig& config) {
  VMS_TRY(const BootId boot, read_boot_id());
  VMS_TRY(auto tls, load_tls(config));
  auto client = std::make_unique<RealClient>(config, std::move(tls), boot);
  VMS_CHECK(client->start());
  return std::unique_ptr<Client>(std::move(client));
}

}  // namespace vmstore::disk
