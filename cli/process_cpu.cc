// SPDX-License-Identifier: Apache-2.0
#include "cli/process_cpu.h"

#include <unistd.h>

#include <charconv>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>

namespace vmstore::cli {
namespace {

// Fields of /proc/PID/stat behind the program's name, which may hold anything: state is 0.
constexpr int kUserField = 11;
constexpr int kSystemField = 12;

}  // namespace

std::optional<std::chrono::microseconds> parse_cpu_time(std::string_view stat,
                                                        std::uint64_t ticks_per_second) {
  const auto name_end = stat.rfind(") ");
  if (name_end == std::string_view::npos || ticks_per_second == 0) return std::nullopt;
  stat.remove_prefix(name_end + 2);
  constexpr std::uint64_t kMicros = 1'000'000;
  std::uint64_t ticks = 0;
  for (int field = 0; field <= kSystemField; ++field) {
    const std::string_view text = stat.substr(0, stat.find(' '));
    if (field >= kUserField) {
      std::uint64_t value = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
      if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
      if (value > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
      ticks += value;
    }
    stat.remove_prefix(std::min(stat.size(), text.size() + 1));
  }
  return std::chrono::microseconds(ticks * kMicros / ticks_per_second);
}

std::optional<std::chrono::microseconds> cpu_time_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  return parse_cpu_time(text, static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK)));
}

}  // namespace vmstore::cli
