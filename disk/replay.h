// SPDX-License-Identifier: Apache-2.0
// Replay: reads parts of logs back into an overlay. DESIGN 5, 6, 7.
//
// Invariants: records are taken strictly in sequence; a gap, a damaged record or an unreadable
// piece below the end that was asked for is `unknown`, never a shorter log (F5, I9); a sequence
// already seen (appended again after a roll) is skipped; only headers are read.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "disk/copies.h"
#include "snapshot/run_map.h"
#include "wire/record.h"

namespace vmstore::disk {

/// A record as found, with where it is.
struct ReplayedRecord {
  wire::RecordHeader header;
  LogPosition at;
  std::uint64_t bytes = 0;
};
using RecordVisitor = std::function<Result<void>(const ReplayedRecord&)>;

/// The keys of a log from `from.key` to `to.key`, in order, found through the headers'
/// predecessors.
[[nodiscard]] Task<Result<std::vector<KeyId>>> keys_between(Copies& copies, KeyId from, KeyId to);

/// Visits every record from `from` up to (not including) `to`. REQUIRES: `to` is behind a record.
/// `token`: 0, or the reader's own (a recovery read fences too).
[[nodiscard]] Task<Result<void>> visit_log(
    Copies& copies, LogPosition from, LogPosition to, Epoch token, RecordVisitor visitor);

/// What a replay of a disk's own log found.
struct ReplayedState {
  Address top;  // of the newest root, else what was given
  bool has_root = false;
  LogPosition root;              // the newest root record
  LogPosition replay_from;       // first record that the pages do not contain
  std::uint64_t disk_bytes = 0;  // of the newest root and the resizes behind its replay_from
  Sequence last_sequence;
  std::uint64_t replay_bytes = 0;  // of log since replay_from
  snapshot::RunMap overlay;
  std::vector<KeyId> keys;
};

/// Replays [from, to): later roots replace earlier ones and what they contain.
/// `top`, `disk_bytes`: the state at `from`; `overlay`: what lies above `top` there.
struct ReplayRequest {
  LogPosition from;
  LogPosition to;
  Epoch token;
  Address top;
  std::uint64_t disk_bytes = 0;
  snapshot::RunMap overlay;
};
[[nodiscard]] Task<Result<ReplayedState>> replay_log(Copies& copies, ReplayRequest request);

/// Puts a record's runs over `overlay`, as addresses and zeros.
void apply_runs(const wire::RecordHeader& header, snapshot::RunMap& overlay);

}  // namespace vmstore::disk
