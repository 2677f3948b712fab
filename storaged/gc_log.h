// SPDX-License-Identifier: Apache-2.0
// GcLog: reads parts of disks' logs from the node's own key files, headers only.
//
// Invariants: a part that cannot be read to exactly its end is an error, never a shorter part (I9);
// nothing is fenced, nothing is changed.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/ids.h"
#include "base/result.h"
#include "base/task.h"
#include "storaged/block_store.h"
#include "wire/record.h"

namespace vmstore::storaged {

/// Records of one key: log bytes [from, to).
struct LogSpan {
  KeyId key;
  std::uint64_t from = 0;
  std::uint64_t to = 0;
};

using GcRecordVisitor = std::function<Result<void>(const wire::RecordHeader&)>;

/// THREADS: the scheduler's.
class GcLog {
 public:
  /// `stop` is looked at between reads.
  GcLog(BlockStore& store, const bool& stop) : store_(store), stop_(stop) {}

  /// The spans of a log from `from` to the log offset `end` of `last`, in order, found backwards
  /// through the key headers. `unknown`: the keys do not hang together.
  [[nodiscard]] Task<Result<std::vector<LogSpan>>> spans(LogPosition from,
                                                         KeyId last,
                                                         std::uint64_t end);
  /// Visits every record of a span but the key header.
  [[nodiscard]] Task<Result<void>> visit(LogSpan span, const GcRecordVisitor& visitor);

 private:
  [[nodiscard]] Task<Result<wire::RecordHeader>> key_header(KeyId key);
  BlockStore& store_;
  const bool& stop_;
};

}  // namespace vmstore::storaged
