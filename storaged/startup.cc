// SPDX-License-Identifier: Apache-2.0
// Steps of docs/protocol/ownership.pml: go_back.
#include "storaged/startup.h"

#include <optional>
#include <string>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::storaged {
namespace {

constexpr int kAttempts = 10;
constexpr Duration kPause = std::chrono::milliseconds(100);

std::string node_key(NodeId node) {
  return std::string(meta::kNodePrefix) + node.hex();
}

void put_identity(const Identity& identity, meta::pb::NodeRecord& record) {
  *record.mutable_id() = meta::to_pb(identity.node);
  *record.mutable_incarnation() = meta::to_pb(identity.incarnation);
  record.set_start_count(identity.start_count);
}

void put_place(const NodePlace& place, meta::pb::NodeRecord& record) {
  record.set_address(place.address);
  record.set_certificate(place.certificate);
  if (place.zone) record.set_zone(*place.zone);
  if (place.weight) record.set_weight(*place.weight);
}

Result<void> check_beside(const meta::pb::NodeRecord& other,
                          const Identity& identity,
                          const NodePlace& place) {
  const auto id = meta::from_pb<NodeId>(other.id());
  if (id == identity.node) return success();
  if (!place.certificate.empty() && other.certificate() == place.certificate) {
    VMS_LOG(error,
            "node",
            "node " << id.hex() << " of this store shows a certificate of the name '"
                    << place.certificate
                    << "', too: issue another one (vmstore cert issue); nothing was changed");
    return Errc::exists;
  }
  if (identity.start_count == 0 && other.address().empty()) {
    VMS_LOG(error,
            "node",
            "node " << id.hex()
                    << " of this store cannot be reached by others: start it with --listen "
                       "ADDRESS:PORT and TLS first; nothing was changed");
    return Errc::conflict;
  }
  return success();
}

/// Writes the node's record over the one that was read (`old`, or none). `conflict`: somebody else
/// writes it, that is, two nodes have one identity.
Task<Result<void>> put_node(Scheduler& scheduler,
                            meta::MetaStore& store,
                            meta::pb::NodeRecord record,
                            std::optional<meta::Entry> old) {
  const std::string key = node_key(meta::from_pb<NodeId>(record.id()));
  const std::string value = meta::encode(record);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    meta::Txn txn;
    txn.compares.push_back(meta::Compare{key, false});
    if (old) txn.compares.front().what = old->mod_revision;
    txn.then_ops.push_back(meta::Op{key, value});
    const auto answer = co_await store.txn(std::move(txn));
    if (answer && answer->held) co_return success();
    if (!answer && !meta::is_outcome_unknown(answer.error())) co_return answer.error();
    if (!answer) co_await sleep_for(scheduler, kPause);
    // A lost answer may have been a yes: then the record is ours already [H1].
    VMS_CO_TRY(const auto now, co_await store.get(key));
    if (now.entry && now.entry->value == value) co_return success();
    if (answer) co_return Errc::conflict;
  }
  co_return Errc::timed_out;
}

/// The first entries of a new store's catalogue, all or none.
Task<Result<void>> make_catalogue(Scheduler& scheduler,
                                  meta::MetaStore& store,
                                  StoreId id,
                                  meta::pb::NodeRecord node,
                                  std::uint64_t catalogue) {
  meta::pb::StoreRecord record;
  *record.mutable_id() = meta::to_pb(id);
  record.set_format(meta::kStoreFormat);
  record.set_created_ns(
      static_cast<std::uint64_t>(scheduler.wall_now().time_since_epoch().count()));
  record.set_catalogue(catalogue);
  meta::pb::KeyCounter counter;
  counter.set_next(KeyId::kFirst);
  const std::string store_key(meta::kStoreKey);
  meta::Txn txn;
  txn.compares.push_back(meta::Compare{store_key, false});
  txn.then_ops.push_back(meta::Op{store_key, meta::encode(record)});
  txn.then_ops.push_back(meta::Op{std::string(meta::kKeyCounterKey), meta::encode(counter)});
  txn.then_ops.push_back(meta::Op{node_key(meta::from_pb<NodeId>(node.id())), meta::encode(node)});
  const auto answer = co_await store.txn(std::move(txn));
  if (!answer && !meta::is_outcome_unknown(answer.error())) co_return answer.error();
  co_return success();  // the caller reads it back, whatever the answer was
}

Result<void> check_store(const std::optional<meta::Entry>& entry, const Identity& identity) {
  if (!entry) {
    VMS_LOG(error,
            "node",
            "the catalogue is empty but store "
                << identity.store.hex()
                << " is not new; run `vmstored --rebuild-meta` to restore it from the folder's "
                   "own log, nothing was changed");
    return Errc::corrupt;
  }
  const auto record = meta::decode<meta::pb::StoreRecord>(entry->value);
  if (!record) {
    VMS_LOG(error, "node", "the catalogue's store record: " << to_string(record.error()));
    return record.error();
  }
  const auto id = meta::from_pb<StoreId>(record->id());
  if (id != identity.store) {
    VMS_LOG(error,
            "node",
            "the catalogue belongs to store " << id.hex() << ", the data folder to "
                                              << identity.store.hex());
    return Errc::foreign_store;
  }
  return success();
}

/// The identity of this start, from what the folder and the catalogue counted.
Result<Identity> next_identity(const Identity& old,
                               std::optional<std::uint64_t> counted,
                               Random& random) {
  Identity next = old;
  const std::uint64_t catalogue = counted.value_or(old.start_count);
  next.start_count = catalogue + 1;
  if (old.start_count < catalogue) {
    next.incarnation = random.id128<Incarnation>();
    VMS_LOG(warning,
            "node",
            "the data folder is older than the catalogue knows it (start "
                << old.start_count << " instead of " << catalogue
                << "): it was rolled back; new incarnation " << next.incarnation.hex());
  }
  if (old.start_count > next.start_count) {
    VMS_LOG(error,
            "node",
            "the catalogue is older than the data folder (it knows start "
                << catalogue << " of " << old.start_count
                << "): it was rolled back; run `vmstored --rebuild-meta`, nothing was changed");
    return Errc::corrupt;
  }
  return next;
}

}  // namespace

meta::pb::NodeRecord node_record(const Identity& identity) {
  meta::pb::NodeRecord record;
  put_identity(identity, record);
  record.set_weight(1);
  return record;
}

Task<Result<void>> check_place_among(meta::MetaStore& store,
                                     const Identity& identity,
                                     const NodePlace& place) {
  meta::RangeRequest request;
  request.prefix = std::string(meta::kNodePrefix);
  for (;;) {
    VMS_CO_TRY(const auto page, co_await store.range(request));
    for (const meta::Entry& entry : page.entries) {
      VMS_CO_TRY(const auto other, meta::decode<meta::pb::NodeRecord>(entry.value));
      VMS_CO_CHECK(check_beside(other, identity, place));
    }
    if (!page.more || page.entries.empty()) co_return success();
    request.revision = page.revision;
    request.after = page.entries.back().key;
  }
}

Task<Result<void>> join_catalogue(Scheduler& scheduler,
                                  meta::MetaStore& store,
                                  DataFolder& folder,
                                  Random& random,
                                  NodePlace place,
                                  IsServedAt is_served_at) {
  meta::pb::NodeRecord node = node_record(folder.identity());
  const std::string store_key(meta::kStoreKey);
  VMS_CO_TRY(auto found, co_await store.get(store_key));
  if (!found.entry && folder.is_new()) {
    // The high half counts rebuilds (meta/rebuild.h).
    const auto catalogue = static_cast<std::uint32_t>(random.u64());
    put_place(place, node);
    VMS_CO_CHECK(
        co_await make_catalogue(scheduler, store, folder.identity().store, node, catalogue));
    VMS_CO_TRY(found, co_await store.get(store_key));
  }
  VMS_CO_CHECK(check_store(found.entry, folder.identity()));
  VMS_CO_TRY(const auto known, co_await store.get(node_key(folder.identity().node)));
  std::optional<std::uint64_t> counted;
  if (known.entry) {
    VMS_CO_TRY(node, meta::decode<meta::pb::NodeRecord>(known.entry->value));
    counted = node.start_count();
    const bool may_be_served = is_served_at != nullptr && !node.address().empty();
    if (may_be_served && co_await is_served_at(node.address())) {
      VMS_LOG(error,
              "node",
              "node " << folder.identity().node.hex() << " is served at " << node.address()
                      << " already: this folder is a copy; nothing was changed");
      co_return Errc::busy;
    }
  }
  VMS_CO_TRY(const Identity identity, next_identity(folder.identity(), counted, random));
  VMS_CO_CHECK(folder.save(identity));
  VMS_FAULT("node.start.counted");
  put_identity(identity, node);
  put_place(place, node);
  const auto put = co_await put_node(scheduler, store, std::move(node), known.entry);
  if (!put) {
    VMS_LOG(error, "node", "the start is not in the catalogue: " << to_string(put.error()));
  }
  co_return put;
}

}  // namespace vmstore::storaged
