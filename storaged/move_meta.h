// SPDX-License-Identifier: Apache-2.0
// The catalogue of a stopped node goes into an etcd: moved there from the folder's own RocksDB
// (`vmstored --migrate-meta`), or made there anew from the folder's log when that etcd was wiped or
// put back from an old backup (`vmstored --rebuild-meta --meta etcd=...`) (DESIGN 6) [C14, R9].
//
// Either way it becomes another catalogue (meta/rebuild.h): a number and revisions of its own.
// The steps, each durable before the next: the folder says that its catalogue is on its way
// (catalogue_place.h: from here on nobody serves it); etcd has it as a whole; the folder's log is a
// copy of that; RocksDB's folder is set aside; the folder says that it is in etcd. Whatever was cut
// short goes on with the same call.
#pragma once

#include <string>

#include "base/posix_files.h"
#include "base/random.h"
#include "base/result.h"

namespace vmstore::storaged {

/// `etcd_urls` as in the configuration. `exists`: something of a catalogue is in that etcd, or this
/// one has moved already · `busy`: the node runs · what RocksDB, its log and etcd answer. Each is
/// logged. THREADS: blocks; `files` is the data folder, `path` where it is.
[[nodiscard]] Result<void> migrate_catalogue(PosixFiles& files,
                                             const std::string& path,
                                             const std::string& etcd_urls,
                                             Random& random);

/// `exists`: that etcd has all that the folder's log has · `foreign_store`: it has the catalogue of
/// another store, or one that was rebuilt from another node's log since · `unknown`: the two
/// contradict each other · `conflict`: the catalogue was never in etcd.
[[nodiscard]] Result<void> rebuild_in_etcd(PosixFiles& files,
                                           const std::string& etcd_urls,
                                           Random& random);

}  // namespace vmstore::storaged
