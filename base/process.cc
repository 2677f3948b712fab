// SPDX-License-Identifier: Apache-2.0
#include "base/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <string>

#include "base/errc.h"

namespace vmstore {
namespace {

// Fields behind the program's name, which is in brackets and may hold anything; the state is 0.
constexpr std::size_t kFlagsField = 6;
constexpr std::size_t kUserField = 11;
constexpr std::size_t kSystemField = 12;
constexpr std::size_t kStartField = 19;
constexpr std::uint64_t kExiting = 0x4;  // PF_EXITING, linux/sched.h

}  // namespace

Result<ProcessStat> parse_process_stat(std::string_view text) {
  const std::size_t name_end = text.rfind(") ");
  if (name_end == std::string_view::npos) return Errc::unknown;
  text.remove_prefix(name_end + 2);
  std::array<std::uint64_t, kStartField + 1> numbers{};
  const bool has_ended = text.starts_with('Z') || text.starts_with('X');
  for (std::size_t field = 0; field <= kStartField; ++field) {
    const std::size_t space = text.find(' ');
    if (space == std::string_view::npos) return Errc::unknown;  // cut short
    const std::string_view word = text.substr(0, space);
    const bool wanted = field == kFlagsField || field == kUserField || field == kSystemField ||
                        field == kStartField;
    if (wanted) {
      const auto [end, error] =
          std::from_chars(word.data(), word.data() + word.size(), numbers[field]);
      if (error != std::errc() || end != word.data() + word.size()) return Errc::unknown;
    }
    text.remove_prefix(space + 1);
  }
  ProcessStat stat;
  stat.user_ticks = numbers[kUserField];
  stat.system_ticks = numbers[kSystemField];
  stat.start_ticks = numbers[kStartField];
  stat.is_over = has_ended || (numbers[kFlagsField] & kExiting) != 0;
  return stat;
}

Result<ProcessStat> read_process_stat(std::uint64_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/stat";
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return last_os_error();
  std::array<char, 4096> text{};
  const ssize_t got = ::read(fd, text.data(), text.size());
  const Error error = got < 0 ? last_os_error() : Error(Errc::ok);
  ::close(fd);
  // A process that ends between the two calls.
  if (got < 0) return error.os_errno == ESRCH ? Error(Errc::not_found) : error;
  return parse_process_stat(std::string_view(text.data(), static_cast<std::size_t>(got)));
}

}  // namespace vmstore
