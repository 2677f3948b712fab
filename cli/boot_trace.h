// SPDX-License-Identifier: Apache-2.0
// A recorded boot: which requests a guest made of its disk, and when. docs/format/boot_trace.md.
//
// Invariants: a decoded trace keeps every bound of its format, so whoever replays it needs no check
// of its own; a file that was cut off is refused.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "cli/failure.h"

namespace vmstore::cli {

enum class TraceOp { read, write, zero, trim, flush };

struct TraceRequest {
  TraceOp op = TraceOp::read;
  bool fua = false;
  std::chrono::microseconds begin{0};  // from the first request of the trace
  std::chrono::microseconds end{0};
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;  // 0 for a flush
};

struct BootTrace {
  static constexpr std::uint64_t kVersion = 1;
  static constexpr std::uint64_t kFileBytesMax = std::uint64_t{64} << 20;
  static constexpr std::uint64_t kRequestsMax = 1'000'000;
  static constexpr std::uint64_t kRequestBytesMax = std::uint64_t{32} << 20;
  static constexpr std::uint64_t kUnderWayMax = 1024;
  static constexpr std::chrono::hours kTimeMax{24};

  std::uint64_t size_bytes = 0;         // of the disk it was recorded on
  std::vector<std::string> notes;       // for people
  std::vector<TraceRequest> requests;   // by begin; at least one
  std::uint64_t request_bytes_max = 0;  // of the longest read or write
};

/// `integrity` for what is no trace or a damaged one, with the line; `usage` for another version.
[[nodiscard]] Answer<BootTrace> decode_boot_trace(std::string_view text, const std::string& name);
/// The trace in a file.
[[nodiscard]] Answer<BootTrace> read_boot_trace(const std::string& path);

}  // namespace vmstore::cli
