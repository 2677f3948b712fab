// SPDX-License-Identifier: Apache-2.0
// Ballast: real blocks of the data folder's file system, kept back for the catalogue. Others may
// fill that file system to the last byte; to remove something is a change of the catalogue, too,
// and finds room where the ballast was.
//
// Invariants: it is given up only when the catalogue is about to be changed, because what is given
// up earlier goes to whoever fills; it is taken only where much more stays free. The file says
// nothing: a missing, short or half-made one is as good as none, and whoever removes it harms
// nobody. A store works without one, as where a file system cannot allocate.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>

#include "base/files.h"
#include "base/limits.h"
#include "base/result.h"

namespace vmstore::storaged {

inline constexpr std::string_view kBallastFile = "ballast";

/// THREADS: any; calls block. OWNS: the file `ballast`.
class Ballast {
 public:
  /// A log of the catalogue and tables of RocksDB (4 MiB each) that are written anew find room.
  static constexpr std::uint64_t kBytesMax = 8 * limits::kMiB;

  /// Finds what an earlier start kept. `files` outlives it.
  explicit Ballast(Files& files);

  /// Gives all of it up if `failed`, or if the file system has less than that left.
  void make_room(bool failed);
  /// Keeps it, unless it is kept, if twice as much and `reserve_bytes` are free.
  void take(std::uint64_t reserve_bytes);
  /// What is kept now, in bytes.
  [[nodiscard]] std::uint64_t held_bytes() const;

 private:
  [[nodiscard]] Result<void> find();
  [[nodiscard]] Result<void> allocate(std::uint64_t bytes);
  [[nodiscard]] Result<void> give_up();

  Files& files_;
  mutable std::mutex mutex_;  // guards the next two; nothing else is locked under it
  std::uint64_t held_ = 0;
  bool unsupported_ = false;  // the file system cannot, and was asked
};

}  // namespace vmstore::storaged
