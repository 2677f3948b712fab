// SPDX-License-Identifier: Apache-2.0
// RocksFolder: the folder of a RocksTables and what says that it is one: the files `format` and
// `lock` beside RocksDB's own folder `db`.
//
// Invariants: RocksDB opens only what `format` calls complete and of a known version; a folder is
// complete only after its first content is durable; one process uses it at a time.
#pragma once

#include <memory>
#include <string>

#include "base/posix_files.h"
#include "base/result.h"

namespace vmstore::meta {

class RocksFolder {
 public:
  /// The errors of RocksTables::open.
  [[nodiscard]] static Result<std::unique_ptr<RocksFolder>> open(const std::string& path);
  /// Begins a store in an empty folder; it is one only after finish().
  [[nodiscard]] static Result<std::unique_ptr<RocksFolder>> begin(const std::string& path);
  [[nodiscard]] Result<void> finish();
  /// Whether begin() found the database of a making that was cut short.
  [[nodiscard]] bool has_db() const noexcept { return has_db_; }
  [[nodiscard]] Result<void> make_db_folder();
  [[nodiscard]] std::string db_path() const { return path_ + "/db"; }

 private:
  enum class State { none, making, complete };
  RocksFolder(std::string path, std::unique_ptr<PosixFiles> files)
      : path_(std::move(path)), files_(std::move(files)) {}
  [[nodiscard]] static Result<std::unique_ptr<RocksFolder>> lock(const std::string& path);
  [[nodiscard]] Result<State> read_state();
  [[nodiscard]] Result<void> write_state(State state);

  std::string path_;
  std::unique_ptr<PosixFiles> files_;
  std::unique_ptr<File> lock_;
  bool has_db_ = false;
};

}  // namespace vmstore::meta
