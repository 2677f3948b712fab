// SPDX-License-Identifier: Apache-2.0
// FakeClient: a store in memory behind the interface of disk/, for tests of the command line.
#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "cli/app.h"
#include "disk/disk.h"

namespace vmstore::cli::test {

/// What all clients of one test share.
struct FakeStore {
  struct Disk {
    disk::DiskSummary summary;
    std::vector<std::byte> bytes;
    std::optional<std::uint64_t> mapped_bytes;
    std::map<std::string, std::vector<std::byte>> snapshots;
  };
  std::mutex mutex;
  std::map<std::string, Disk> disks;
  std::map<std::string, Disk> trash;
  std::vector<std::string> calls;         // "create web", in order
  std::map<std::string, Error> failures;  // by the call's first word
  std::vector<std::string> warnings;      // of the node's status
  std::vector<disk::CatalogueEntry> catalogue;
  std::function<void()> during_verify;
  std::vector<std::string> verify_snapshots;   // the names that were given
  std::optional<std::uint64_t> fail_write_at;  // a write that covers this byte fails

  Disk& add(const std::string& name, std::uint64_t bytes);
  [[nodiscard]] bool called(const std::string& call) const;
};

class FakeClient final : public disk::Client {
 public:
  explicit FakeClient(FakeStore& store) : store_(store) {}

  Result<std::unique_ptr<disk::BlockingDisk>> open(const disk::DiskOpenOptions& o) override;
  Result<disk::DiskSummary> create(const std::string& name,
                                   std::uint64_t bytes,
                                   std::uint32_t copies) override;
  Result<std::vector<disk::DiskSummary>> list() override;
  Result<disk::DiskSummary> details(const std::string& name) override;
  Result<std::optional<std::uint64_t>> mapped_bytes(const std::string& name) override;
  Result<std::vector<disk::SnapshotSummary>> snapshots(const std::string& name) override;
  Result<disk::SnapshotTiming> snapshot(const std::string& name, const std::string& snap) override;
  Result<void> remove_snapshot(const std::string& name, const std::string& snap) override;
  Result<void> rollback(const std::string& name, const std::string& snap, bool force) override;
  Result<void> clone(const std::string& source, const std::vector<std::string>& names) override;
  Result<void> resize(const std::string& name,
                      std::uint64_t bytes,
                      bool allow_shrink,
                      bool force) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> remove(const std::string& name, bool now, bool force) override;
  Result<std::vector<disk::TrashSummary>> trash() override;
  Result<void> restore(const std::string& name, const std::string& as) override;
  Result<void> purge(const std::string& name) override;
  Result<disk::VerifyReport> verify(const std::string& name,
                                    const disk::VerifyControl& control) override;
  Result<void> break_owner(const std::string& name) override;
  Result<std::uint64_t> discard_batch_file(const std::string& name) override;
  Result<disk::NodeStatus> node_status() override;
  Result<std::vector<disk::NodeSummary>> nodes() override;
  Result<disk::GcReport> collect_garbage(bool dry_run) override;
  Result<std::uint64_t> export_catalogue(const CataloguePage& page) override;
  Result<void> import_catalogue(const std::vector<disk::CatalogueEntry>& entries,
                                bool accept_loss) override;

 private:
  /// Notes the call and gives the failure the test asked for.
  [[nodiscard]] Result<void> begin(const std::string& word, const std::string& rest);
  FakeStore& store_;
};

/// One run of the command line against a FakeStore.
struct Ran {
  int exit_code = -1;
  std::string out;
  std::string err;
};
[[nodiscard]] Ran run(FakeStore& store, std::vector<std::string> arguments);

}  // namespace vmstore::cli::test
