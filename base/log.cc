// SPDX-License-Identifier: Apache-2.0
#include "base/log.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <string>

namespace vmstore {
namespace {

std::atomic<LogLevel> minimum{LogLevel::info};

struct LevelText {
  std::string_view word;
  std::string_view journald;
};
constexpr std::array<LevelText, 4> kLevels{
    {{"debug", "<7>"}, {"info", "<6>"}, {"warning", "<4>"}, {"error", "<3>"}}};

}  // namespace

void set_log_level(LogLevel level) noexcept {
  minimum = level;
}
bool log_enabled(LogLevel level) noexcept {
  return level >= minimum.load();
}

void log_line(LogLevel level, std::string_view area, std::string_view text) {
  static const bool to_journal = std::getenv("JOURNAL_STREAM") != nullptr;
  const LevelText& names = kLevels[static_cast<std::size_t>(level)];
  std::string line;
  if (to_journal) line.append(names.journald);
  line.append(names.word).append(" ").append(area).append(": ").append(text).append("\n");
  // One write, so that lines of several threads and processes stay whole. Nobody to tell if it
  // fails.
  [[maybe_unused]] const auto wrote = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace vmstore
