// SPDX-License-Identifier: Apache-2.0
// DiskRights: the disks of one session whose certificate is for some disks only.
//
// Invariants: nothing changes, is held or asked of a holder, but of a disk whose record has a name
// that the certificate is for; what cannot be told is refused. Reading is not narrowed: the blocks
// of a clone lie in keys of other disks, and nothing tells yet which of those it may read.
#pragma once

#include <string>
#include <unordered_set>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "wire/frame.h"

namespace vmstore::storaged {

class Node;

/// THREADS: the scheduler's.
class DiskRights {
 public:
  /// No patterns: every disk.
  DiskRights(Node& node, std::vector<std::string> patterns)
      : node_(node), patterns_(std::move(patterns)) {}

  [[nodiscard]] bool are_limited() const noexcept { return !patterns_.empty(); }
  [[nodiscard]] const std::vector<std::string>& patterns() const noexcept { return patterns_; }
  /// Of a request that names a disk, or a key, that it changes: `permission`, `not_found` for a key
  /// that is not there. Once a disk was let pass nothing is awaited for it, so that appends keep
  /// their order; a disk that is renamed stays this session's.
  [[nodiscard]] Task<Result<void>> check(const wire::Frame& request);

 private:
  [[nodiscard]] Result<DiskId> disk_of_key(std::uint64_t number) const;
  [[nodiscard]] Result<DiskId> disk_of(const wire::Frame& request) const;
  Node& node_;
  std::vector<std::string> patterns_;
  std::unordered_set<DiskId> passed_;
};

}  // namespace vmstore::storaged
