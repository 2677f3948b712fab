// SPDX-License-Identifier: Apache-2.0
#include "storaged/rebuild_meta.h"

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <set>
#include <utility>

#include "base/fault.h"
#include "base/log.h"
#include "meta/backup.h"
#include "meta/catalogue_log.h"
#include "meta/rebuild.h"
#include "meta/restore.h"
#include "meta/rocks_folder.h"
#include "storaged/aside.h"
#include "storaged/catalogue_place.h"
#include "storaged/gc.h"
#include "storaged/identity.h"
#include "storaged/key_files.h"
#include "storaged/startup.h"

namespace vmstore::storaged {
namespace {

constexpr std::size_t kMissingSaid = 20;

Result<meta::Backup> read_backup(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    const Error error = last_os_error();
    VMS_LOG(error, "meta", path << ": " << to_string(error));
    return error;
  }
  const std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  if (file.bad()) return Errc::io_error;
  std::string why;
  auto backup = meta::parse_backup(text, why);
  if (!backup) VMS_LOG(error, "meta", path << ": " << why << "; nothing was changed");
  return backup;
}

struct KeysFound {
  std::set<KeyId> whole;  // with data, log and sums
  KeyId newest;           // the highest number that any of them has
};
Result<KeysFound> keys_present(Files& files) {
  KeysFound found;
  for (unsigned folder = 0; folder < kKeyFolderCount; ++folder) {
    const auto names = files.list(key_folder(folder));
    if (!names) {
      VMS_LOG(error, "meta", key_folder(folder) << ": " << to_string(names.error()));
      return names.error();
    }
    for (const std::string& name : *names) {
      const auto parsed = parse_key_file_name(name);
      if (!parsed) continue;
      found.newest = std::max(found.newest, parsed->key);
      const auto has = [&](KeyFileKind kind) {
        const std::string path = key_path(parsed->key, kind);
        const std::string wanted = path.substr(path.rfind('/') + 1);
        return std::binary_search(names->begin(), names->end(), wanted);
      };
      const bool whole = has(KeyFileKind::data) && has(KeyFileKind::log) && has(KeyFileKind::sums);
      if (whole) found.whole.insert(parsed->key);
    }
  }
  return found;
}

/// `not_found` when a key is missing and that is not accepted.
Result<void> check_keys(const meta::Backup& backup,
                        const std::set<KeyId>& present,
                        bool accept_loss) {
  VMS_TRY(const auto named, meta::keys_named(backup.entries));
  std::size_t missing = 0;
  for (const auto& [key, who] : named) {
    if (present.contains(key)) continue;
    ++missing;
    if (missing <= kMissingSaid) {
      VMS_LOG(error, "meta", "key " << key.hex() << " is gone: " << who << " needs it");
    }
  }
  if (missing == 0 || accept_loss) return success();
  VMS_LOG(error,
          "meta",
          missing << " of the " << named.size()
                  << " keys that the backup names are gone; --accept-loss restores the rest, "
                     "nothing was changed");
  return Errc::not_found;
}

/// What reading a catalogue tells of it. An error that only says that it could not be read now is
/// one: it may be there, and newer.
Result<bool> is_there(const std::string& what, const Result<void>& read) {
  if (read) return true;
  const Errc code = read.error().code;
  if (code == Errc::not_found || code == Errc::corrupt || code == Errc::unknown) return false;
  VMS_LOG(error,
          "meta",
          what << ": " << to_string(read.error())
               << ": it may be a catalogue, newer than any backup; --accept-loss sets it aside, "
                  "nothing was changed");
  return read.error();
}

/// `exists` when the folder has a whole catalogue of its own, an error when that cannot be told.
Result<void> check_nothing_newer(Files& files, const std::string& path) {
  const auto log = meta::CatalogueLog::load(files, std::string(kCatalogueFile));
  const std::string log_path = path + "/" + std::string(kCatalogueFile);
  VMS_TRY(const bool has_log, is_there(log_path, log ? success() : Result<void>(log.error())));
  const std::string store_path = path + "/" + std::string(kMetaFolder);
  const auto store = meta::RocksFolder::open(store_path);
  VMS_TRY(const bool has_store,
          is_there(store_path, store ? success() : Result<void>(store.error())));
  if (!has_log && !has_store) return success();
  VMS_LOG(error,
          "meta",
          "the folder has a catalogue of its own, newer than any backup: "
              << (has_log ? "`vmstored --rebuild-meta` loses nothing" : "its log is lost")
              << "; --accept-loss restores the backup in its place, nothing was changed");
  return Errc::exists;
}

/// `conflict`: the catalogue is in etcd, and one in the folder would be a second one. A move that
/// was cut short before RocksDB's folder was set aside may be given up: nobody has served it there.
Result<void> check_place_for_rebuild(Files& files) {
  VMS_TRY(const auto place, read_place(files));
  if (place.kind == CataloguePlace::Kind::embedded) return success();
  const auto content = files.list(kMetaFolder);
  const bool is_first_move = content && !content->empty();
  if (place.kind == CataloguePlace::Kind::moving && is_first_move) return success();
  VMS_LOG(error,
          "meta",
          "the catalogue of this folder is in etcd: `vmstore meta rebuild --meta etcd=URL` makes "
          "it anew there, nothing was changed");
  return Errc::conflict;
}

Result<void> end_move(Files& files) {
  VMS_TRY(const auto place, read_place(files));
  if (place.kind == CataloguePlace::Kind::embedded) return success();
  return write_place(files, CataloguePlace());
}

}  // namespace

Result<void> rebuild_catalogue(Files& files, const std::string& path, Random& random) {
  VMS_TRY(const auto folder, DataFolder::open(files, DataFolder::Missing::refuse, random));
  VMS_CHECK(check_place_for_rebuild(files));
  auto image = meta::CatalogueLog::load(files, std::string(kCatalogueFile));
  if (!image) {
    VMS_LOG(error,
            "meta",
            "the folder's own copy of the catalogue: "
                << to_string(image.error())
                << "; what is left is a backup: `vmstore meta restore FILE --data " << path
                << "`, nothing was changed");
    return image.error();
  }
  const std::array<meta::LogSource, 1> sources{
      meta::LogSource{folder->identity().node.hex(), std::move(*image)}};
  VMS_TRY(const auto rebuilt,
          meta::plan_rebuild(sources, static_cast<std::uint32_t>(random.u64())));
  // Only now, when it is known that a new one can be made.
  VMS_CHECK(set_meta_folder_aside(files));
  VMS_FAULT("node.rebuild.set_aside");
  VMS_CHECK(files.make_folder(kMetaFolder));
  VMS_CHECK(files.sync_folder(""));
  const std::string meta_path = path + "/" + std::string(kMetaFolder);
  VMS_CHECK(meta::rebuild_rocks(rebuilt, files, std::string(kCatalogueFile), meta_path));
  VMS_CHECK(end_move(files));
  VMS_LOG(info,
          "meta",
          "rebuilt the catalogue: " << rebuilt.image.entries.size() << " entries, revision "
                                    << rebuilt.before.revision << " became "
                                    << rebuilt.image.revision);
  return success();
}

Result<void> restore_catalogue(Files& files,
                               const std::string& path,
                               const std::string& backup_file,
                               bool accept_loss,
                               Random& random) {
  VMS_TRY(const meta::Backup backup, read_backup(backup_file));
  VMS_TRY(const auto folder, DataFolder::open(files, DataFolder::Missing::refuse, random));
  const Identity& identity = folder->identity();
  if (backup.store != identity.store.hex()) {
    VMS_LOG(error,
            "meta",
            backup_file << " is of store " << backup.store << ", the data folder of store "
                        << identity.store.hex() << "; nothing was changed");
    return Errc::foreign_store;
  }
  VMS_CHECK(check_place_for_rebuild(files));
  if (!accept_loss) VMS_CHECK(check_nothing_newer(files, path));
  VMS_TRY(const auto present, keys_present(files));
  VMS_CHECK(check_keys(backup, present.whole, accept_loss));
  meta::RestoreTarget target;
  target.store = identity.store;
  target.node = node_record(identity);
  target.newest_key = present.newest;
  target.salt = static_cast<std::uint32_t>(random.u64());
  const auto image = meta::plan_restore(backup, target);
  if (!image) {
    VMS_LOG(error, "meta", backup_file << ": " << to_string(image.error()));
    return image.error();
  }
  // First: the restored catalogue is newer than any the collector saw, so nothing else stops it
  // from freeing what only the one set aside names.
  VMS_CHECK(hold_gc(files));
  VMS_CHECK(set_meta_folder_aside(files));
  VMS_CHECK(set_log_aside(files));
  VMS_CHECK(files.make_folder(kMetaFolder));
  VMS_CHECK(files.sync_folder(""));
  const std::string meta_path = path + "/" + std::string(kMetaFolder);
  VMS_CHECK(meta::make_rocks(*image, files, std::string(kCatalogueFile), meta_path));
  VMS_CHECK(end_move(files));
  VMS_LOG(info,
          "meta",
          "restored the catalogue from " << backup_file << ": " << image->entries.size()
                                         << " entries, revision " << backup.revision << " became "
                                         << image->revision
                                         << "; no space is freed by itself until `vmstore gc` was "
                                            "run: it deletes what the backup does not name");
  return success();
}

}  // namespace vmstore::storaged
