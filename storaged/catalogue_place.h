// SPDX-License-Identifier: Apache-2.0
// Where the catalogue of a data folder is: in the folder (RocksDB), or in an etcd. Written down in
// the folder, so that a node never serves from the one after it was moved to the other.
// docs/format/store.md.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/files.h"
#include "base/result.h"
#include "storaged/identity.h"

namespace vmstore::storaged {

struct CataloguePlace {
  enum class Kind {
    embedded,
    moving,  // to etcd, and not yet there: nobody serves it
    etcd,
  };
  Kind kind = Kind::embedded;
  std::uint64_t catalogue = 0;  // while moving: the number that it gets
  friend bool operator==(const CataloguePlace&, const CataloguePlace&) = default;
};

/// Without a file it is embedded. `corrupt`: nobody can tell · `newer_format`.
[[nodiscard]] Result<CataloguePlace> read_place(Files& files);
/// Durable when it returns.
[[nodiscard]] Result<void> write_place(Files& files, const CataloguePlace& place);

/// Whether a node that was told to use etcd, or not, may serve the folder; if not, the log says
/// what to do. `conflict`: it is elsewhere, or on its way.
[[nodiscard]] Result<void> check_place(const CataloguePlace& place, bool wants_etcd, bool is_new);

}  // namespace vmstore::storaged
