// SPDX-License-Identifier: Apache-2.0
#include "meta/rebuild.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/log.h"
#include "meta/catalogue_log.h"
#include "meta/reconcile.h"
#include "meta/records.h"
#include "meta/rocks_folder.h"
#include "meta/rocks_tables.h"
#include "meta/schema.h"

namespace vmstore::meta {
namespace {

constexpr unsigned kRebuildBits = 32;  // of a catalogue number: how often it was rebuilt, then salt

Result<pb::StoreRecord> store_record(const Image& image) {
  const auto found = image.entries.find(std::string(kStoreKey));
  if (found == image.entries.end()) return Errc::corrupt;
  return decode<pb::StoreRecord>(found->second.value);
}

/// The sources of the latest rebuild, all of one store.
Result<std::vector<const LogSource*>> newest_catalogue(std::span<const LogSource> sources,
                                                       pb::StoreRecord& record) {
  std::vector<const LogSource*> newest;
  for (const LogSource& source : sources) {
    VMS_TRY(auto other, store_record(source.image));
    const bool first = newest.empty();
    if (!first && from_pb<StoreId>(other.id()) != from_pb<StoreId>(record.id())) {
      VMS_LOG(error, "meta", source.node << " belongs to another store");
      return Errc::foreign_store;
    }
    const std::uint64_t rebuilds = record.catalogue() >> kRebuildBits;
    const std::uint64_t other_rebuilds = other.catalogue() >> kRebuildBits;
    if (!first && other_rebuilds < rebuilds) continue;
    if (!first && other_rebuilds == rebuilds && other.catalogue() != record.catalogue()) {
      VMS_LOG(error, "meta", source.node << " has a catalogue that was rebuilt separately");
      return Errc::foreign_store;
    }
    if (other_rebuilds > rebuilds) newest.clear();
    record = std::move(other);
    newest.push_back(&source);
  }
  return newest;
}

}  // namespace

Result<Rebuilt> plan_rebuild(std::span<const LogSource> sources, std::uint32_t salt) {
  if (sources.empty()) return Errc::not_found;
  pb::StoreRecord record;
  VMS_TRY(const auto newest, newest_catalogue(sources, record));
  const LogSource& best =
      **std::max_element(newest.begin(), newest.end(), [](const LogSource* a, const LogSource* b) {
        return a->image.revision < b->image.revision;
      });
  for (const LogSource* other : newest) VMS_CHECK(missing_changes(other->image, best.image));
  Rebuilt rebuilt;
  rebuilt.node = best.node;
  rebuilt.before = best.image;
  rebuilt.image = best.image;
  rebuilt.image.revision = ((best.image.revision >> kRebuildBits) + 1) << kRebuildBits;
  rebuilt.catalogue = ((record.catalogue() >> kRebuildBits) + 1) << kRebuildBits | salt;
  record.set_catalogue(rebuilt.catalogue);
  Entry& store = rebuilt.image.entries.at(std::string(kStoreKey));
  store.value = encode(record);
  store.mod_revision = rebuilt.image.revision;
  return rebuilt;
}

Result<void> rebuild_rocks(const Rebuilt& rebuilt,
                           Files& files,
                           const std::string& log_path,
                           const std::string& folder) {
  // Refused before the log is touched, if a store is there.
  VMS_CHECK(RocksFolder::begin(folder));
  VMS_CHECK(CatalogueLog::create(files, log_path + ".old", rebuilt.before));
  return make_rocks(rebuilt.image, files, log_path, folder);
}

Result<void> make_rocks(const Image& image,
                        Files& files,
                        const std::string& log_path,
                        const std::string& folder) {
  VMS_CHECK(RocksFolder::begin(folder));
  VMS_CHECK(CatalogueLog::create(files, log_path, image));
  Changes content;
  for (const auto& [key, entry] : image.entries) content.push_back({entry});
  VMS_CHECK(RocksTables::create(folder, content, image.revision));
  return success();
}

}  // namespace vmstore::meta
