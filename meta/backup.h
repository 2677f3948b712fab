// SPDX-License-Identifier: Apache-2.0
// The file of `meta backup`: the whole catalogue of one revision, as JSON lines.
//
//   {"vmstore_meta_backup":1,"store":"<32 hex digits>","created":"<time>"}
//   {"key":"<hex>","value":"<hex>"}                 one line an entry, in key order
//   {"entries":<count>,"revision":<n>,"sha256":"<of every byte before this line>"}
//
// Written without spaces and with the members in this order, and read so: the sum covers each byte.
//
// Invariants: a file without a matching last line is refused as a whole; a backup is written beside
// its name, synced and renamed, so the name is never a part of one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/checksum.h"
#include "base/result.h"

namespace vmstore::meta {

/// One entry of the catalogue as it is stored (meta/schema.h).
struct BackupEntry {
  std::string key;
  std::string value;
};

/// The text of a backup, piece by piece.
class BackupWriter {
 public:
  /// `created`: for people.
  [[nodiscard]] std::string begin(std::string_view store, std::string_view created);
  [[nodiscard]] std::string entries(const std::vector<BackupEntry>& entries);
  [[nodiscard]] std::string end(std::uint64_t revision);
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

 private:
  std::string hashed(std::string text);
  Sha256Stream hash_;
  std::uint64_t count_ = 0;
};

struct Backup {
  std::string store;
  std::uint64_t revision = 0;
  std::vector<BackupEntry> entries;
};
/// `corrupt` for anything that is not a whole, undamaged backup, `newer_format` for one of a newer
/// version; `why` says it in a sentence.
[[nodiscard]] Result<Backup> parse_backup(std::string_view text, std::string& why);

}  // namespace vmstore::meta
