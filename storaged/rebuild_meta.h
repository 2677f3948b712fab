// SPDX-License-Identifier: Apache-2.0
// `vmstored --rebuild-meta`: a store whose metadata folder is lost or damaged gets a new one from
// the folder's own catalogue log (DESIGN 6) [C14]. `vmstored --restore-meta FILE`: both are lost,
// and a backup is all there is.
#pragma once

#include <string>

#include "base/files.h"
#include "base/random.h"
#include "base/result.h"

namespace vmstore::storaged {

/// Sets the old metadata folder aside (meta.old, meta.old.1, …: never deleted) and makes the new
/// one. `busy` while the node runs; `not_found` without a log. A call that was cut short can be
/// repeated. THREADS: blocks; `files` is the data folder, `path` where it is.
[[nodiscard]] Result<void> rebuild_catalogue(Files& files, const std::string& path, Random& random);

/// Makes metadata folder and log from a backup; what was there of them is set aside, never deleted,
/// and nothing is collected until somebody asks for it (kGcHoldFile).
/// Unless `accept_loss`: `exists` when the folder has a whole log or metadata folder of its own,
/// which is newer, and the error that it met when it cannot tell whether it has; `not_found` when
/// a key that the backup names, or a file of it, is gone (each is logged), or a folder of keys.
/// `busy`, `foreign_store`, `corrupt`, `newer_format`: nothing was changed, the reason is logged.
/// A call that was cut short can be repeated, or ended by rebuild_catalogue().
[[nodiscard]] Result<void> restore_catalogue(Files& files,
                                             const std::string& path,
                                             const std::string& backup_file,
                                             bool accept_loss,
                                             Random& random);

}  // namespace vmstore::storaged
