// SPDX-License-Identifier: Apache-2.0
// `vmstored --rebuild-meta`: a store whose metadata folder is lost or damaged gets a new one from
// the folder's own catalogue log (DESIGN 6) [C14].
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

}  // namespace vmstore::storaged
