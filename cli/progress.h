// SPDX-License-Identifier: Apache-2.0
// Progress of long work, on stderr: a bar on a terminal, plain lines or JSON where asked for.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>

namespace vmstore::cli {

enum class ProgressMode { automatic, bar, plain, json, none };

/// Bytes done of bytes in all, with rate and time left. THREADS: one.
class Progress {
 public:
  using Time = std::chrono::steady_clock::time_point;

  /// `automatic` becomes a bar on a terminal and nothing elsewhere.
  Progress(ProgressMode mode, bool is_terminal, std::ostream& err, std::string verb);
  /// Ends the bar's line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void begin(std::uint64_t total_bytes, Time now);
  /// Draws at most ten times a second (plain: once in two seconds). `note` goes behind the figures.
  void update(std::uint64_t done_bytes, std::string_view note, Time now);
  /// Draws the last state and ends the line.
  void finish(Time now);

 private:
  void draw(Time now);

  ProgressMode mode_;
  std::ostream& err_;
  std::string verb_;
  std::uint64_t total_bytes_ = 0;
  std::uint64_t done_bytes_ = 0;
  std::string note_;
  Time start_;
  std::optional<Time> drawn_;
  std::size_t width_ = 0;
};

/// "[#####-----]  50%  1.0/2.0 GiB  212 MiB/s  ETA 3s": what a bar shows. `total` 0 = not known.
[[nodiscard]] std::string progress_line(std::uint64_t done,
                                        std::uint64_t total,
                                        std::chrono::milliseconds elapsed);
/// "3s", "4m10s", "2h05m".
[[nodiscard]] std::string format_duration(std::chrono::seconds duration);

}  // namespace vmstore::cli
