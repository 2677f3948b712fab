// SPDX-License-Identifier: Apache-2.0
// CatalogueLog: a node's own copy of the catalogue, an append-only file apart from the store's
// folder, from which the store can be rebuilt (DESIGN 6) [C14].
//
// Invariants: the file is a whole copy of the catalogue as of its revision; append() returns after
// the change is on stable storage; damage is `unknown`, never a shorter catalogue; after a write or
// sync that failed this file is used no more, only replaced.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "base/files.h"
#include "base/result.h"
#include "meta/catalogue_log_format.h"

namespace vmstore::meta {

/// THREADS: any, one call at a time; calls block.
class CatalogueLog {
 public:
  /// What the file holds, without changing it. `not_found`: there is none · `unknown`: damaged ·
  /// `foreign_store` · `newer_format`.
  [[nodiscard]] static Result<Image> load(Files& files, const std::string& path);

  struct Opened {
    std::unique_ptr<CatalogueLog> log;
    Image image;
  };
  /// Opens for appending, cutting off a torn end. The errors of load().
  [[nodiscard]] static Result<Opened> open(Files& files, const std::string& path);
  /// Makes the file with this content, in the place of one that is there: a crash leaves the old or
  /// the new one whole.
  [[nodiscard]] static Result<std::unique_ptr<CatalogueLog>> create(Files& files,
                                                                    const std::string& path,
                                                                    const Image& image);

  /// Adds changes that lead from revision() to `revision`. `invalid_argument` if they do not
  /// follow, `no_space` if the file has its maximum, `unavailable` after an error.
  [[nodiscard]] Result<void> append(const Changes& changes, std::uint64_t revision);
  /// Whether the changes fit one append.
  [[nodiscard]] static bool fits(const Changes& changes);

  /// True once it is worth asking compact() again.
  [[nodiscard]] bool may_hold_garbage() const noexcept { return bytes_ >= look_at_bytes_; }
  /// Rewrites the file if more than half of it is superseded. An error that is_failed() does not
  /// follow left the old file in use.
  [[nodiscard]] Result<void> compact();

  [[nodiscard]] std::uint64_t revision() const noexcept { return revision_; }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool is_failed() const noexcept { return failed_; }

 private:
  CatalogueLog(Files& files, std::string path) : files_(files), path_(std::move(path)) {}
  [[nodiscard]] Result<void> write_new(const Image& image);
  void note_live_bytes(std::uint64_t live_bytes);

  Files& files_;
  std::string path_;
  std::unique_ptr<File> file_;
  std::uint64_t bytes_ = 0;
  std::uint64_t groups_ = 0;
  std::uint64_t revision_ = 0;
  std::uint64_t look_at_bytes_ = 0;
  bool failed_ = false;
};

}  // namespace vmstore::meta
