// SPDX-License-Identifier: Apache-2.0
#include "meta/reconcile.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "meta/records.h"
#include "meta/schema.h"

namespace vmstore::meta {
namespace {

constexpr int kImageAttempts = 5;

const Entry* find(const Image& image, const std::string& key) {
  const auto found = image.entries.find(key);
  return found == image.entries.end() ? nullptr : &found->second;
}

bool equal(const Entry& a, const Entry& b) {
  return a.mod_revision == b.mod_revision && a.value == b.value;
}

Result<void> check_identity(const Image& log, const Image& store) {
  const std::string key(kStoreKey);
  const Entry* const logged = find(log, key);
  const Entry* const stored = find(store, key);
  if (logged == nullptr) return success();
  VMS_TRY(const auto log_record, decode<pb::StoreRecord>(logged->value));
  if (stored != nullptr) {
    VMS_TRY(const auto store_record, decode<pb::StoreRecord>(stored->value));
    const bool same = from_pb<StoreId>(log_record.id()) == from_pb<StoreId>(store_record.id()) &&
                      log_record.catalogue() == store_record.catalogue();
    if (same) return success();
  }
  VMS_LOG(error,
          "meta",
          "this node's catalogue log is of store " << from_pb<StoreId>(log_record.id()).hex()
                                                   << ", catalogue " << log_record.catalogue()
                                                   << "; the metadata is of another");
  return Errc::foreign_store;
}

Error contradiction(const std::string& key) {
  VMS_LOG(error, "meta", "the catalogue and its log contradict each other about " << key);
  return Errc::unknown;
}

}  // namespace

Result<Changes> missing_changes(const Image& older, const Image& newer) {
  Changes changes;
  for (const auto& [key, entry] : newer.entries) {
    if (entry.mod_revision > older.revision) {
      changes.push_back({entry});
      continue;
    }
    const Entry* const known = find(older, key);
    if (known == nullptr || !equal(*known, entry)) return contradiction(key);
  }
  for (const auto& [key, entry] : older.entries) {
    if (find(newer, key) != nullptr) continue;
    if (newer.revision == older.revision) return contradiction(key);
    changes.push_back({{key, "", newer.revision}, true});
  }
  std::stable_sort(changes.begin(), changes.end(), [](const Event& a, const Event& b) {
    return a.entry.mod_revision < b.entry.mod_revision;
  });
  return changes;
}

Result<Reconciliation> reconcile(const Image& log, const Image& store) {
  VMS_CHECK(check_identity(log, store));
  Reconciliation both;
  both.revision = std::max(log.revision, store.revision);
  if (log.revision <= store.revision) {
    VMS_TRY(both.for_log, missing_changes(log, store));
  } else {
    VMS_TRY(both.for_store, missing_changes(store, log));
  }
  return both;
}

Task<Result<Image>> read_image(MetaStore& store) {
  Error error = Errc::compacted;
  for (int attempt = 0; attempt < kImageAttempts && error == Errc::compacted; ++attempt) {
    Image image;
    RangeRequest request;
    for (bool more = true; more;) {
      const auto answer = co_await store.range(request);
      if (!answer) {
        error = answer.error();
        break;
      }
      for (const Entry& entry : answer->entries) image.entries.emplace(entry.key, entry);
      more = answer->more;
      image.revision = answer->revision;
      request.revision = answer->revision;
      if (more) request.after = answer->entries.back().key;
      if (!more) co_return image;
    }
  }
  co_return error;
}

}  // namespace vmstore::meta
