// SPDX-License-Identifier: Apache-2.0
// LogWalk: the records of a key's log, from its first on.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "storaged/key_files.h"
#include "wire/record.h"

namespace vmstore::storaged {

/// THREADS: one; blocks.
class LogWalk {
 public:
  struct Step {
    wire::RecordHeader record;
    KeyLength end;                 // length of the key up to and including it
    std::uint64_t log_offset = 0;  // where it begins
  };
  /// `files` outlives the walk; it goes no further than `log_bytes`.
  LogWalk(KeyFiles& files, std::uint64_t log_bytes) : files_(files), log_bytes_(log_bytes) {}
  /// Empty at the end. `corrupt`: what lies there is no record, or not the next one.
  [[nodiscard]] Result<std::optional<Step>> next();

 private:
  Result<ByteSpan> view(std::uint64_t offset);
  KeyFiles& files_;
  std::uint64_t log_bytes_;
  KeyLength at_;
  std::vector<std::byte> window_;
  std::uint64_t window_offset_ = 0;
};

/// The record that ends the key at `sequence`. `wrong_offset`: no record does.
[[nodiscard]] Result<LogWalk::Step> find_record_end(KeyFiles& files,
                                                    std::uint64_t log_bytes,
                                                    Sequence sequence);

}  // namespace vmstore::storaged
