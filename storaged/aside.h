// SPDX-License-Identifier: Apache-2.0
// What is replaced in a data folder is set aside under a name of its own, never deleted.
#pragma once

#include "base/files.h"
#include "base/result.h"

namespace vmstore::storaged {

/// RocksDB's folder becomes meta.old, meta.old.1, …; durable. One that is missing or empty is left.
[[nodiscard]] Result<void> set_meta_folder_aside(Files& files);
/// The catalogue's log becomes catalogue.old, catalogue.old.1, …; durable.
[[nodiscard]] Result<void> set_log_aside(Files& files);

}  // namespace vmstore::storaged
