// SPDX-License-Identifier: Apache-2.0
// What a boot storm measured, as numbers and as text.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/boot_replay.h"
#include "cli/json.h"

namespace vmstore::cli {

struct Percentiles {
  std::uint64_t count = 0;
  std::chrono::nanoseconds p50{0};
  std::chrono::nanoseconds p99{0};
  std::chrono::nanoseconds max{0};
};
/// By nearest rank; all 0 of nothing.
[[nodiscard]] Percentiles percentiles_of(std::vector<std::chrono::nanoseconds> times);

struct BootReport {
  std::uint64_t vms = 0;
  bool paced = false;
  std::chrono::nanoseconds first{0};  // the fastest boot
  std::chrono::nanoseconds last{0};   // the slowest
  Percentiles boots;
  Percentiles requests;
  Percentiles reads;
  Percentiles writes;  // with zeroes and trims
  Percentiles flushes;
  std::uint64_t read_bytes = 0;
  std::uint64_t written_bytes = 0;
  std::uint64_t skipped = 0;
  std::uint64_t bytes_per_second = 0;  // read and written, until the last boot's end
  std::optional<std::chrono::microseconds> server_cpu;  // of all nbdkits together
  std::optional<std::chrono::microseconds> node_cpu;    // of vmstored
  std::optional<std::chrono::nanoseconds> clone_time;
  std::optional<std::chrono::nanoseconds> attach_time;
};

[[nodiscard]] BootReport report_of(const std::vector<ReplayedBoot>& boots, bool paced);
/// Integers: nanoseconds (_ns), microseconds (_us), bytes. What was not measured is null.
[[nodiscard]] json::object report_fields(const BootReport& report);
[[nodiscard]] std::string report_text(const BootReport& report);

}  // namespace vmstore::cli
