// SPDX-License-Identifier: Apache-2.0
// NodeTable: the inode numbers that the kernel knows.
//
// Invariants: a number is never reused, so that what the kernel caches under it belongs to one file
// only; a file that was removed and made again under the same name gets a new one; the table holds
// no more than what the kernel has looked up and not forgotten.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "base/time.h"
#include "fuse/listing.h"
#include "fuse/names.h"

namespace vmstore::fuse {

/// A name for it, so that nobody takes one for a size.
struct Inode {
  std::uint64_t number = 0;
  friend auto operator<=>(const Inode&, const Inode&) = default;
};
inline constexpr Inode kRootInode{1};

/// What the table remembers of one.
struct Node {
  Place place;
  Identity identity;
  std::uint64_t lookups = 0;
  // Of a disk: when it may last have changed, as far as this mount can tell.
  WallTime changed{};
  std::uint64_t epoch = 0;
};

/// THREADS: any.
class NodeTable {
 public:
  NodeTable();

  /// The number of a file that was found, looked up once more.
  [[nodiscard]] Inode look_up(const FileInfo& info, WallTime now);
  /// Takes back `count` look-ups.
  void forget(Inode inode, std::uint64_t count);
  [[nodiscard]] std::optional<Node> find(Inode inode) const;
  /// Time of the last change. There is none in the catalogue, so a disk that somebody holds, or
  /// that had a new owner since the last look, is taken as changed now: programs that compare times
  /// (rsync) copy too often rather than too seldom.
  [[nodiscard]] WallTime note(Inode inode, const FileInfo& info, WallTime now);
  /// How many there are, the root included.
  [[nodiscard]] std::size_t size() const;

 private:
  using Key = std::pair<Place, Identity>;
  mutable std::mutex mutex_;
  std::map<Inode, Node> nodes_;
  std::map<Key, Inode> inodes_;
  std::uint64_t last_ = kRootInode.number;
};

}  // namespace vmstore::fuse
