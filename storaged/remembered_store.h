// SPDX-License-Identifier: Apache-2.0
// Which store a data folder held, remembered outside of it (`vmstored --store-file`). An unmounted
// file system leaves an empty folder: without this it would become a new, empty store, and "I do
// not know" would be "no disks".
//
// The file is two lines of text: the store's id and the data folder. One about another folder says
// nothing about this one.
#pragma once

#include <optional>
#include <string>

#include "base/ids.h"
#include "base/result.h"

namespace vmstore::storaged {

/// The id, in hexadecimal, that `file` remembers of `data_folder`; nothing if there is no such file
/// or it is about another folder. `corrupt` for any other content: it is not "nothing".
[[nodiscard]] Result<std::optional<std::string>> remembered_store(const std::string& file,
                                                                  const std::string& data_folder);
/// Replaces the file as a whole. Not synced: it lives as long as the run folder, on tmpfs.
[[nodiscard]] Result<void> remember_store(const std::string& file,
                                          const std::string& data_folder,
                                          StoreId store);

}  // namespace vmstore::storaged
