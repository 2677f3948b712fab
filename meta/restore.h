// SPDX-License-Identifier: Apache-2.0
// What a backup of the catalogue needs to become one again: the store went on after it was taken,
// so its tokens, lengths and counters are old.
//
// Invariants: a token, a key number or a revision that the lost catalogue gave out is not given out
// again by the restored one; a disk's log is read to the end that its key has now, not to the one
// that was true then, so that what was written after the backup is found as far as it can be.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "meta/backup.h"
#include "meta/catalogue_log_format.h"
#include "meta/records.h"

namespace vmstore::meta {

/// The keys that the entries name, each with one entry that does, for people. A disk's pages name
/// more. `corrupt`: a record that cannot be read.
[[nodiscard]] Result<std::map<KeyId, std::string>> keys_named(
    const std::vector<BackupEntry>& entries);

/// Makes records of then fit for now. Of each disk, in the trash or not: a token above any that was
/// given out since (1,048,576 more), no key numbers drawn ahead, no claim about a batch file, no
/// key that nothing needs any more: those of keys_named() and of pages are all that it names; one
/// that was released with an open key is to be recovered, since it may have been written again.
/// The same for the same entries. `corrupt` as keys_named().
[[nodiscard]] Result<void> make_current(std::vector<BackupEntry>& entries);

struct RestoreTarget {
  StoreId store;
  pb::NodeRecord node;     // as the restored catalogue shall have it
  KeyId newest_key;        // the highest number among the node's keys
  std::uint32_t salt = 0;  // of the catalogue's new number
};
/// The catalogue that a backup becomes beside the files of its only node. `foreign_store`: it is of
/// another store · `corrupt`: a record is missing or cannot be read · `newer_format`.
[[nodiscard]] Result<Image> plan_restore(const Backup& backup, const RestoreTarget& target);

}  // namespace vmstore::meta
