// SPDX-License-Identifier: Apache-2.0
// The way back when the metadata store is lost: a fresh one from the catalogue logs of the nodes
// that answer (DESIGN 6) [C14, R9].
//
// Every log is a whole copy of the catalogue at its revision, so the one with the highest revision
// has the newest of each entry, removals included. The new catalogue gets a number of its own and
// a revision above any that the lost one can have given out: no compare against the lost one can
// hold by chance, and nodes that have not been told refuse the new one.
//
// Invariant: a rebuild that was cut short is no store, and can be repeated.
#pragma once

#include <span>
#include <string>

#include "base/files.h"
#include "base/result.h"
#include "meta/catalogue_log_format.h"

namespace vmstore::meta {

struct LogSource {
  std::string node;  // for messages
  Image image;
};

struct Rebuilt {
  std::string node;  // whose log is taken
  Image before;      // as it is there
  Image image;       // the new catalogue
  std::uint64_t catalogue = 0;
};

/// `not_found`: no source · `corrupt`: a source without a valid store record · `foreign_store`: of
/// different stores, or of different rebuilds · `unknown`: two logs contradict each other.
[[nodiscard]] Result<Rebuilt> plan_rebuild(std::span<const LogSource> sources, std::uint32_t salt);

/// Replaces the node's log (the old content is kept as `<log_path>.old`), then makes the embedded
/// store in `folder`, which must exist and be empty: see RocksTables::create. Blocks.
[[nodiscard]] Result<void> rebuild_rocks(const Rebuilt& rebuilt,
                                         Files& files,
                                         const std::string& log_path,
                                         const std::string& folder);

/// The same from a content alone: what the log held before is replaced and not kept.
[[nodiscard]] Result<void> make_rocks(const Image& image,
                                      Files& files,
                                      const std::string& log_path,
                                      const std::string& folder);

}  // namespace vmstore::meta
