// SPDX-License-Identifier: Apache-2.0
// The file of `meta backup`: the whole catalogue of one revision, as JSON lines.
//
//   {"vmstore_meta_backup":1,"store":"<32 hex digits>","created":"<time>"}
//   {"key":"<hex>","value":"<hex>"}                 one line an entry, in key order
//   {"entries":<count>,"revision":<n>,"sha256":"<of every byte before this line>"}
//
// Invariants: a file without a matching last line is refused as a whole; a backup is written beside
// its name, synced and renamed, so the name is never a part of one.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/checksum.h"
#include "cli/failure.h"
#include "disk/disk.h"

namespace vmstore::cli {

/// The text of a backup, piece by piece.
class BackupWriter {
 public:
  [[nodiscard]] std::string begin(std::string_view store, std::uint64_t now_ns);
  [[nodiscard]] std::string entries(const std::vector<disk::CatalogueEntry>& entries);
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
  std::vector<disk::CatalogueEntry> entries;
};
/// `integrity` for anything that is not a whole, undamaged backup.
[[nodiscard]] Answer<Backup> parse_backup(std::string_view text);

}  // namespace vmstore::cli
