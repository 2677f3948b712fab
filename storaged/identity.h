// SPDX-License-Identifier: Apache-2.0
// Identity: who a data folder belongs to, and DataFolder: the folder taken by this process.
// docs/format/store.md is the byte layout of the identity file.
//
// Layout of a data folder: `store` (identity), `lock`, `gc` (last round), `journal` and keys/
// (BlockStore), catalogue (the log of the metadata), meta/ (RocksDB, rebuilt from it if need be).
//
// Invariants: nothing in a folder is changed before the lock is held and the identity was read and
// believed; a folder that holds anything else is never touched; the identity is replaced as a whole
// (a crash leaves the old or the new one).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "base/ids.h"
#include "base/random.h"
#include "base/result.h"

namespace vmstore::storaged {

inline constexpr std::uint32_t kIdentityFormat = 1;
inline constexpr std::string_view kIdentityFile = "store";
inline constexpr std::string_view kLockFile = "lock";
inline constexpr std::string_view kMetaFolder = "meta";
inline constexpr std::string_view kCatalogueFile = "catalogue";
inline constexpr std::string_view kPlaceFile = "catalogue.place";  // see catalogue_place.h

struct Identity {
  StoreId store;
  NodeId node;
  Incarnation incarnation;
  /// Starts of the node on this folder; 0 = never started, the catalogue may still be empty.
  std::uint64_t start_count = 0;
  friend bool operator==(const Identity&, const Identity&) = default;
};

[[nodiscard]] std::vector<std::byte> encode_identity(const Identity& identity);
/// `foreign_store`: not an identity file. `newer_format`: of a newer version, nothing else is
/// known. `corrupt`: damaged, or ids that cannot be.
[[nodiscard]] Result<Identity> decode_identity(ByteSpan bytes);

/// THREADS: its owner's, at start-up: the calls read and write small files. OWNS: the lock.
class DataFolder {
 public:
  enum class Missing { create, refuse };
  /// Takes the folder. `busy`: another process has it. `foreign_store`: it holds something else.
  /// `not_found`: it is empty and `missing` is refuse. Each is logged with what to do. A new folder
  /// becomes a node of the store `join`, or the first one of a new store; `before_new` is called
  /// first, with the folder taken, and may refuse.
  [[nodiscard]] static Result<std::unique_ptr<DataFolder>> open(
      Files& files,
      Missing missing,
      Random& random,
      StoreId join = StoreId(),
      const std::function<Result<void>()>& before_new = {});
  DataFolder(const DataFolder&) = delete;
  DataFolder& operator=(const DataFolder&) = delete;

  [[nodiscard]] const Identity& identity() const noexcept { return identity_; }
  /// The node never got as far as serving: its catalogue may be made.
  [[nodiscard]] bool is_new() const noexcept { return identity_.start_count == 0; }
  /// Durable when it returns.
  [[nodiscard]] Result<void> save(const Identity& identity);

 private:
  DataFolder(Files& files, std::unique_ptr<File> lock) : files_(files), lock_(std::move(lock)) {}
  Files& files_;
  std::unique_ptr<File> lock_;
  Identity identity_;
};

}  // namespace vmstore::storaged
