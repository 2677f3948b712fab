// SPDX-License-Identifier: Apache-2.0
// Admin: the store as a whole: status, garbage collection, the catalogue as a backup.
#include <algorithm>
#include <tuple>
#include <utility>

#include "base/limits.h"
#include "base/log.h"
#include "disk/admin.h"
#include "meta/records.h"
#include "meta/restore.h"
#include "meta/schema.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

constexpr std::size_t kRestorePerTxn = 100;
constexpr std::size_t kMissingSaid = 20;
constexpr Duration kNodeWait = std::chrono::seconds(2);  // that are shown as up

bool starts_with(const std::string& key, std::string_view prefix) {
  return key.compare(0, prefix.size(), prefix) == 0;
}

/// What a restore leaves to the running store.
bool belongs_to_node(const std::string& key) {
  return key == meta::kStoreKey || key == meta::kGcKey || starts_with(key, meta::kNodePrefix);
}

NodeSummary summary_of(const meta::pb::NodeRecord& record) {
  NodeSummary summary;
  summary.id = meta::from_pb<NodeId>(record.id());
  summary.address = record.address();
  summary.zone = record.zone();
  summary.weight = record.weight();
  summary.certificate = record.certificate();
  return summary;
}

}  // namespace

Task<Result<NodeStatus>> Admin::node_status() {
  return status_of(session_.node());
}

Task<Result<std::vector<NodeSummary>>> Admin::nodes() {
  net::NodePool& pool = session_.copies().nodes();
  static_cast<void>(pool.unreachable());  // begins to connect to all of them
  const TimePoint deadline = session_.scheduler().now() + kNodeWait;
  std::vector<NodeSummary> nodes;
  meta::RangeRequest request;
  request.prefix = std::string(meta::kNodePrefix);
  for (;;) {
    VMS_CO_TRY(const auto answer, co_await catalogue_.range(request));
    for (const meta::Entry& entry : answer.entries) {
      VMS_CO_TRY(const auto record, meta::decode<meta::pb::NodeRecord>(entry.value));
      nodes.push_back(summary_of(record));
    }
    if (!answer.more || answer.entries.empty()) break;
    request.after = answer.entries.back().key;
    request.revision = answer.revision;
  }
  for (NodeSummary& node : nodes) {
    net::NodeClient* const client = pool.find(node.id);
    if (client == nullptr) continue;
    const auto session = co_await client->wait_connected(deadline);
    node.up = session.has_value();
    node.home = client == &session_.node();
    if (!node.up) continue;
    auto status = co_await status_of(*client);
    if (status) node.status = std::move(*status);
  }
  std::sort(nodes.begin(), nodes.end(), [](const auto& a, const auto& b) {
    return std::tie(a.address, a.id) < std::tie(b.address, b.id);
  });
  co_return nodes;
}

Task<Result<NodeStatus>> Admin::status_of(net::NodeClient& node) {
  VMS_CO_TRY(const auto reply, co_await node.status());
  NodeStatus status;
  status.store = session_.store().hex();
  status.version = reply->version();
  status.data_folder = reply->data_folder();
  status.total_bytes = reply->total_bytes();
  status.free_bytes = reply->free_bytes();
  status.used_bytes = reply->used_bytes();
  status.unchecked_bytes = reply->garbage_bytes();
  status.key_count = reply->key_count();
  status.journal_bytes = reply->journal_bytes();
  status.journal_used_bytes = reply->journal_used_bytes();
  status.session_count = reply->session_count();
  status.uptime = std::chrono::milliseconds(reply->uptime_ms());
  status.direct_io = reply->direct_io();
  status.warnings.assign(reply->warnings().begin(), reply->warnings().end());
  co_return status;
}

Task<Result<GcReport>> Admin::collect_garbage(bool dry_run) {
  VMS_CO_TRY(const auto reply, co_await session_.node().run_gc(dry_run));
  GcReport report;
  report.round = reply->round();
  report.keys_deleted = reply->keys_deleted();
  report.blocks_punched = reply->blocks_punched();
  report.bytes_freed = reply->bytes_freed();
  report.blocks_live = reply->blocks_live();
  report.pages_visited = reply->pages_visited();
  co_return report;
}

Task<Result<std::uint64_t>> Admin::export_catalogue(Client::CataloguePage page) {
  meta::RangeRequest request;
  request.prefix = "/";
  for (;;) {
    VMS_CO_TRY(const auto answer, co_await catalogue_.range(request));
    std::vector<CatalogueEntry> entries;
    for (const meta::Entry& entry : answer.entries) entries.push_back({entry.key, entry.value});
    VMS_CO_CHECK(page(entries));
    if (!answer.more || entries.empty()) co_return answer.revision;
    request.after = entries.back().key;
    request.revision = answer.revision;
  }
}

Task<Result<void>> Admin::check_named_keys(std::vector<CatalogueEntry> entries) {
  VMS_CO_TRY(const auto named, meta::keys_named(entries));
  std::size_t missing = 0;
  for (const auto& [key, who] : named) {
    const auto info = co_await session_.copies().key_info(key);
    if (info) continue;
    if (info.error() != Errc::not_found) co_return info.error();
    ++missing;
    if (missing > kMissingSaid) continue;
    VMS_LOG(error, "meta", "key " << key.hex() << " is gone: " << who << " needs it");
  }
  if (missing != 0) co_return Errc::not_found;
  co_return success();
}

Task<Result<void>> Admin::import_catalogue(std::vector<CatalogueEntry> entries, bool accept_loss) {
  // A node that runs takes no record that names what is not there: it would never get to the end.
  if (accept_loss) co_return Errc::unsupported;
  VMS_CO_CHECK(meta::make_current(entries));
  for (const CatalogueEntry& entry : entries) {
    if (entry.key != meta::kStoreKey) continue;
    VMS_CO_TRY(const auto store, meta::decode<meta::pb::StoreRecord>(entry.value));
    if (meta::from_pb<StoreId>(store.id()) != session_.store()) co_return Errc::foreign_store;
  }
  // Nothing of the running store may be lost by it.
  for (const std::string_view prefix : {meta::kDiskPrefix, meta::kSnapPrefix, meta::kTrashPrefix}) {
    VMS_CO_TRY(const auto present, co_await catalogue_.range_all(std::string(prefix)));
    for (const meta::Entry& entry : present) {
      const bool same = std::any_of(entries.begin(), entries.end(), [&](const auto& other) {
        return other.key == entry.key && other.value == entry.value;
      });
      if (!same) co_return Errc::exists;
    }
  }
  VMS_CO_CHECK(co_await check_named_keys(entries));
  // Names last: no disk can be opened before the whole backup is there.
  std::stable_partition(entries.begin(), entries.end(), [](const CatalogueEntry& entry) {
    return !starts_with(entry.key, meta::kNamePrefix);
  });
  meta::Txn txn;
  for (const CatalogueEntry& entry : entries) {
    if (belongs_to_node(entry.key)) continue;
    if (entry.key == meta::kKeyCounterKey) {
      VMS_CO_TRY(const auto counter, meta::decode<meta::pb::KeyCounter>(entry.value));
      VMS_CO_CHECK(co_await raise_key_counter(counter.next()));
      continue;
    }
    txn.then_ops.push_back(meta::Op{entry.key, entry.value});
    if (txn.then_ops.size() < kRestorePerTxn) continue;
    const auto stored = co_await catalogue_.store().txn(std::exchange(txn, meta::Txn()));
    if (!stored) co_return stored.error();
  }
  if (!txn.then_ops.empty()) {
    const auto stored = co_await catalogue_.store().txn(std::move(txn));
    if (!stored) co_return stored.error();
  }
  co_return success();
}

Task<Result<void>> Admin::raise_key_counter(std::uint64_t next) {
  for (;;) {
    VMS_CO_TRY(const std::uint64_t drawn, co_await session_.node().draw_keys(1));
    if (drawn + 1 >= next) co_return success();
    const std::uint64_t missing = next - drawn - 1;
    const auto more = co_await session_.node().draw_keys(std::min(missing, limits::kKeyDrawMax));
    if (!more) co_return more.error();
  }
}

}  // namespace vmstore::disk
