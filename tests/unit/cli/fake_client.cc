// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/cli/fake_client.h"

#include <algorithm>

#include "base/checksum.h"
#include "base/units.h"

namespace vmstore::cli::test {
namespace {

class FakeDisk final : public disk::BlockingDisk {
 public:
  FakeDisk(FakeStore& store, DiskReference reference) : store_(store), reference_(reference) {
    info_.name = reference.disk;
    info_.size_bytes = bytes().size();
    info_.read_only = !reference.snapshot.empty();
  }
  const disk::DiskInfo& info() const noexcept override { return info_; }
  Result<void> read(std::uint64_t offset, MutableBytes into) override {
    const std::lock_guard lock(store_.mutex);
    if (offset + into.size() > bytes().size()) return Errc::invalid_argument;
    std::copy_n(bytes().begin() + static_cast<std::ptrdiff_t>(offset), into.size(), into.begin());
    return {};
  }
  Result<void> write(std::uint64_t offset, ByteSpan from, bool /*fua*/) override {
    const std::lock_guard lock(store_.mutex);
    if (offset + from.size() > bytes().size()) return Errc::invalid_argument;
    if (store_.fail_write_at && offset <= *store_.fail_write_at &&
        *store_.fail_write_at < offset + from.size()) {
      return Errc::no_space;
    }
    std::copy(from.begin(), from.end(), bytes().begin() + static_cast<std::ptrdiff_t>(offset));
    return {};
  }
  Result<void> zero(std::uint64_t, std::uint64_t, bool) override { return Errc::unsupported; }
  Result<void> trim(std::uint64_t, std::uint64_t, bool) override { return Errc::unsupported; }
  Result<void> flush() override {
    store_.calls.push_back("flush " + reference_.disk);
    return {};
  }
  Result<std::vector<disk::DiskExtent>> extents(std::uint64_t offset,
                                                std::uint64_t count,
                                                std::size_t count_max) override {
    std::vector<disk::DiskExtent> found;
    for (std::uint64_t at = offset; at < offset + count;) {
      const std::uint64_t now = std::min<std::uint64_t>(4096, offset + count - at);
      const bool zero = is_all_zero(ByteSpan(bytes()).subspan(at, now));
      if (!found.empty() && found.back().zero == zero) {
        found.back().bytes += now;
      } else if (found.size() == count_max) {
        break;
      } else {
        found.push_back({at, now, zero});
      }
      at += now;
    }
    return found;
  }
  Result<void> prefetch(std::uint64_t, std::uint64_t) override { return {}; }
  Result<void> close() override { return {}; }

 private:
  std::vector<std::byte>& bytes() {
    FakeStore::Disk& disk = store_.disks.at(reference_.disk);
    return reference_.snapshot.empty() ? disk.bytes : disk.snapshots.at(reference_.snapshot);
  }
  FakeStore& store_;
  DiskReference reference_;
  disk::DiskInfo info_;
};

/// A fake keeps its bytes: no test writes beyond this, whatever size the disk says it has.
constexpr std::uint64_t kKeptBytesMax = std::uint64_t{64} << 20;

}  // namespace

FakeStore::Disk& FakeStore::add(const std::string& name, std::uint64_t bytes) {
  Disk& disk = disks[name];
  disk.summary.name = name;
  disk.summary.size_bytes = bytes;
  disk.bytes.resize(std::min(bytes, kKeptBytesMax));
  return disk;
}

bool FakeStore::called(const std::string& call) const {
  return std::find(calls.begin(), calls.end(), call) != calls.end();
}

Result<void> FakeClient::begin(const std::string& word, const std::string& rest) {
  store_.calls.push_back(rest.empty() ? word : word + " " + rest);
  if (const auto found = store_.failures.find(word); found != store_.failures.end()) {
    return found->second;
  }
  return {};
}

Result<std::unique_ptr<disk::BlockingDisk>> FakeClient::open(const disk::DiskOpenOptions& o) {
  VMS_CHECK(begin("open", o.reference));
  VMS_TRY(const DiskReference reference, parse_disk_reference(o.reference));
  const auto disk = store_.disks.find(reference.disk);
  if (disk == store_.disks.end()) return Errc::not_found;
  if (!reference.snapshot.empty() && !disk->second.snapshots.contains(reference.snapshot)) {
    return Errc::not_found;
  }
  return std::unique_ptr<disk::BlockingDisk>(std::make_unique<FakeDisk>(store_, reference));
}

Result<disk::DiskSummary> FakeClient::create(const std::string& name,
                                             std::uint64_t bytes,
                                             std::uint32_t /*copies*/) {
  VMS_CHECK(begin("create", name));
  if (store_.disks.contains(name)) return Errc::exists;
  return store_.add(name, bytes).summary;
}

Result<std::vector<disk::DiskSummary>> FakeClient::list() {
  VMS_CHECK(begin("list", {}));
  std::vector<disk::DiskSummary> all;
  for (const auto& [name, disk] : store_.disks) all.push_back(disk.summary);
  return all;
}

Result<disk::DiskSummary> FakeClient::details(const std::string& name) {
  VMS_CHECK(begin("details", name));
  const auto disk = store_.disks.find(name);
  if (disk == store_.disks.end()) return Errc::not_found;
  return disk->second.summary;
}

Result<std::optional<std::uint64_t>> FakeClient::mapped_bytes(const std::string& name) {
  VMS_CHECK(begin("mapped_bytes", name));
  const auto disk = store_.disks.find(name);
  if (disk == store_.disks.end()) return Errc::not_found;
  return disk->second.mapped_bytes;
}

Result<std::vector<disk::SnapshotSummary>> FakeClient::snapshots(const std::string& name) {
  VMS_CHECK(begin("snapshots", name));
  const auto disk = store_.disks.find(name);
  if (disk == store_.disks.end()) return Errc::not_found;
  std::vector<disk::SnapshotSummary> all;
  for (const auto& [snap, bytes] : disk->second.snapshots) {
    disk::SnapshotSummary summary;
    summary.disk = name;
    summary.name = snap;
    summary.size_bytes = bytes.size();
    all.push_back(summary);
  }
  return all;
}

Result<disk::SnapshotTiming> FakeClient::snapshot(const std::string& name,
                                                  const std::string& snap) {
  VMS_CHECK(begin("snapshot", name + "@" + snap));
  const auto disk = store_.disks.find(name);
  if (disk == store_.disks.end()) return Errc::not_found;
  if (disk->second.snapshots.contains(snap)) return Errc::exists;
  disk->second.snapshots[snap] = disk->second.bytes;
  return disk::SnapshotTiming{};
}

Result<void> FakeClient::remove_snapshot(const std::string& name, const std::string& snap) {
  VMS_CHECK(begin("remove_snapshot", name + "@" + snap));
  const auto disk = store_.disks.find(name);
  if (disk == store_.disks.end() || disk->second.snapshots.erase(snap) == 0) return Errc::not_found;
  return {};
}

Result<void> FakeClient::rollback(const std::string& name, const std::string& snap, bool force) {
  VMS_CHECK(begin("rollback", name + "@" + snap + (force ? " force" : "")));
  const auto disk = store_.disks.find(name);
  if (disk == store_.disks.end() || !disk->second.snapshots.contains(snap)) return Errc::not_found;
  disk->second.bytes = disk->second.snapshots[snap];
  return {};
}

Result<void> FakeClient::clone(const std::string& source, const std::vector<std::string>& names) {
  VMS_CHECK(begin("clone", source));
  VMS_TRY(const DiskReference reference, parse_disk_reference(source));
  if (!store_.disks.contains(reference.disk)) return Errc::not_found;
  for (const std::string& name : names) {
    FakeStore::Disk& made = store_.add(name, store_.disks[reference.disk].summary.size_bytes);
    made.summary.base_name = source;
  }
  return {};
}

Result<void> FakeClient::resize(const std::string& name,
                                std::uint64_t bytes,
                                bool allow_shrink,
                                bool /*force*/) {
  VMS_CHECK(begin("resize", name + " " + std::to_string(bytes)));
  FakeStore::Disk& disk = store_.disks.at(name);
  if (bytes < disk.summary.size_bytes && !allow_shrink) return Errc::invalid_argument;
  disk.summary.size_bytes = bytes;
  disk.bytes.resize(std::min(bytes, kKeptBytesMax));
  return {};
}

Result<void> FakeClient::rename(const std::string& from, const std::string& to) {
  VMS_CHECK(begin("rename", from + " " + to));
  if (!store_.disks.contains(from)) return Errc::not_found;
  if (store_.disks.contains(to)) return Errc::exists;
  auto node = store_.disks.extract(from);
  node.key() = to;
  node.mapped().summary.name = to;
  store_.disks.insert(std::move(node));
  return {};
}

Result<void> FakeClient::remove(const std::string& name, bool now, bool force) {
  VMS_CHECK(begin("remove", name + (now ? " now" : "") + (force ? " force" : "")));
  auto node = store_.disks.extract(name);
  if (node.empty()) return Errc::not_found;
  if (!now) store_.trash.insert(std::move(node));
  return {};
}

Result<std::vector<disk::TrashSummary>> FakeClient::trash() {
  VMS_CHECK(begin("trash", {}));
  std::vector<disk::TrashSummary> all;
  for (const auto& [name, disk] : store_.trash) {
    disk::TrashSummary summary;
    summary.name = name;
    summary.size_bytes = disk.summary.size_bytes;
    summary.trashed_ns = 1;
    all.push_back(summary);
  }
  return all;
}

Result<void> FakeClient::restore(const std::string& name, const std::string& as) {
  VMS_CHECK(begin("restore", name + " " + as));
  if (store_.disks.contains(as)) return Errc::exists;
  auto node = store_.trash.extract(name);
  if (node.empty()) return Errc::not_found;
  node.key() = as;
  store_.disks.insert(std::move(node));
  return {};
}

Result<void> FakeClient::purge(const std::string& name) {
  VMS_CHECK(begin("purge", name));
  if (name.empty()) store_.trash.clear();
  store_.trash.erase(name);
  return {};
}

Result<disk::VerifyReport> FakeClient::verify(const std::string& name,
                                              const disk::VerifyControl& control) {
  VMS_CHECK(begin("verify", name));
  store_.verify_snapshots.push_back(control.snapshot);
  if (store_.during_verify) store_.during_verify();
  if (control.stop()) return Errc::interrupted;
  if (!store_.disks.contains(name)) return Errc::not_found;
  disk::VerifyReport report;
  report.blocks = 7;
  if (name == "damaged") {
    report.bad_blocks = 1;
    report.bad_offsets = {4096};
  }
  return report;
}

Result<void> FakeClient::break_owner(const std::string& name) {
  VMS_CHECK(begin("break_owner", name));
  return {};
}

Result<std::uint64_t> FakeClient::discard_batch_file(const std::string& name) {
  VMS_CHECK(begin("discard_batch_file", name));
  return 3;
}

Result<disk::NodeStatus> FakeClient::node_status() {
  VMS_CHECK(begin("node_status", {}));
  disk::NodeStatus status;
  status.store = "00112233445566778899aabbccddeeff";
  status.total_bytes = 1000;
  status.free_bytes = 400;
  status.warnings = store_.warnings;
  return status;
}

Result<std::vector<disk::NodeSummary>> FakeClient::nodes() {
  VMS_CHECK(begin("nodes", {}));
  disk::NodeSummary up;
  up.id = NodeId{1, 2};
  up.address = "10.0.0.1:7000";
  up.zone = "rack-1";
  up.weight = 3;
  up.up = true;
  up.status.emplace();
  up.status->used_bytes = 4096;
  disk::NodeSummary down;
  down.id = NodeId{3, 4};
  down.address = "10.0.0.2:7000";
  down.weight = 1;
  return std::vector<disk::NodeSummary>{up, down};
}

Result<disk::GcReport> FakeClient::collect_garbage(bool dry_run) {
  VMS_CHECK(begin("collect_garbage", dry_run ? "dry" : "real"));
  disk::GcReport report;
  report.bytes_freed = 8192;
  report.blocks_punched = 2;
  return report;
}

Result<std::uint64_t> FakeClient::export_catalogue(const CataloguePage& page) {
  VMS_CHECK(begin("export_catalogue", {}));
  for (const disk::CatalogueEntry& entry : store_.catalogue) VMS_CHECK(page({entry}));
  return 42;
}

Result<void> FakeClient::import_catalogue(const std::vector<disk::CatalogueEntry>& entries,
                                          bool accept_loss) {
  VMS_CHECK(begin("import_catalogue", accept_loss ? "accept_loss" : ""));
  if (!store_.catalogue.empty()) return Errc::exists;
  store_.catalogue = entries;
  return {};
}

Ran run(FakeStore& store, std::vector<std::string> arguments) {
  std::ostringstream out;
  std::ostringstream err;
  Ran ran;
  const auto connect =
      [&](const disk::ClientConfig& /*config*/) -> Result<std::unique_ptr<disk::Client>> {
    if (const auto found = store.failures.find("connect"); found != store.failures.end()) {
      return found->second;
    }
    return std::unique_ptr<disk::Client>(std::make_unique<FakeClient>(store));
  };
  ran.exit_code = run_command(std::move(arguments), connect, out, err);
  ran.out = out.str();
  ran.err = err.str();
  return ran;
}

}  // namespace vmstore::cli::test
