// SPDX-License-Identifier: Apache-2.0
#include "base/errc.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace vmstore {
namespace {

struct Row {
  Errc code;
  std::string_view name;
  std::string_view text;
  int os_errno;
};

constexpr std::array kRows{
    Row{Errc::ok, "ok", "no error", 0},
    Row{Errc::not_found, "not_found", "it does not exist", ENOENT},
    Row{Errc::unknown, "unknown", "the state cannot be told", EIO},
    Row{Errc::exists, "exists", "it exists already", EEXIST},
    Row{Errc::stale_token, "stale_token", "fenced by a newer owner", EIO},
    Row{Errc::sealed, "sealed", "the key is sealed", EIO},
    Row{Errc::wrong_offset, "wrong_offset", "append not at the end of the key", EIO},
    Row{Errc::corrupt, "corrupt", "a checksum or field is wrong", EIO},
    Row{Errc::punched, "punched", "the block was freed", EIO},
    Row{Errc::no_space, "no_space", "no space left", ENOSPC},
    Row{Errc::busy, "busy", "in use by another", EBUSY},
    Row{Errc::timed_out, "timed_out", "no answer in time", ETIMEDOUT},
    Row{Errc::closing, "closing", "being shut down", ESHUTDOWN},
    Row{Errc::disconnected, "disconnected", "the connection was lost", ECONNRESET},
    Row{Errc::bad_frame, "bad_frame", "a malformed or oversize frame", EPROTO},
    Row{Errc::unsupported, "unsupported", "not supported by this version", ENOTSUP},
    Row{Errc::newer_format, "newer_format", "written by a newer version", ENOTSUP},
    Row{Errc::invalid_argument, "invalid_argument", "an impossible name, size or range", EINVAL},
    Row{Errc::read_only, "read_only", "read-only", EROFS},
    Row{Errc::permission, "permission", "not permitted", EACCES},
    Row{Errc::conflict, "conflict", "changed by another meanwhile", EAGAIN},
    Row{Errc::compacted, "compacted", "the metadata revision is gone", EAGAIN},
    Row{Errc::unavailable, "unavailable", "nobody who could serve it answers", EIO},
    Row{Errc::io_error, "io_error", "the device or file system failed", EIO},
    Row{Errc::foreign_store, "foreign_store", "not a folder of this store", EINVAL},
    Row{Errc::interrupted, "interrupted", "interrupted", EINTR},
    Row{Errc::lease_lost, "lease_lost", "the lease ended", EIO},
    Row{Errc::quarantined, "quarantined", "held back after a failed checksum", EIO},
    Row{Errc::not_owner, "not_owner", "this session does not own the disk", EIO},
};

constexpr auto kCodes = [] {
  std::array<Errc, kRows.size()> codes{};
  for (std::size_t i = 0; i < kRows.size(); ++i) codes[i] = kRows[i].code;
  return codes;
}();

const Row& row_of(Errc code) noexcept {
  const auto number = static_cast<std::size_t>(code);
  return number < kRows.size() ? kRows[number] : kRows[static_cast<std::size_t>(Errc::unknown)];
}

}  // namespace

std::span<const Errc> all_errcs() noexcept {
  return kCodes;
}
std::string_view errc_name(Errc code) noexcept {
  return row_of(code).name;
}
std::string_view errc_text(Errc code) noexcept {
  return row_of(code).text;
}
int errc_to_errno(Errc code) noexcept {
  return row_of(code).os_errno;
}

Errc errno_to_errc(int os_errno) noexcept {
  switch (os_errno) {
    case 0:
      return Errc::ok;
    case ENOENT:
      return Errc::not_found;
    case EEXIST:
      return Errc::exists;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
      return Errc::no_space;
    case EACCES:
    case EPERM:
      return Errc::permission;
    case EROFS:
      return Errc::read_only;
    case EINVAL:
    case ENAMETOOLONG:
      return Errc::invalid_argument;
    case EOPNOTSUPP:
      return Errc::unsupported;
    case EBUSY:
    case EAGAIN:
      return Errc::busy;
    case ETIMEDOUT:
      return Errc::timed_out;
    case ECONNRESET:
    case EPIPE:
    case ECONNREFUSED:
    case ENOTCONN:
      return Errc::disconnected;
    case EINTR:
      return Errc::interrupted;
    case ELOOP:  // a symbolic link, a folder or a file where the other belongs
    case EISDIR:
    case ENOTDIR:
      return Errc::foreign_store;
    default:
      return Errc::io_error;
  }
}

Errc errc_from_wire(std::int32_t number) noexcept {
  const auto known = std::find(kCodes.begin(), kCodes.end(), static_cast<Errc>(number));
  return known == kCodes.end() ? Errc::unknown : *known;
}

std::string to_string(const Error& error) {
  std::string text;
  text.append(errc_name(error.code)).append(": ").append(errc_text(error.code));
  if (error.os_errno != 0) {
    std::array<char, 128> buffer{};
    const char* message = strerror_r(error.os_errno, buffer.data(), buffer.size());
    text.append(" (errno ").append(std::to_string(error.os_errno)).append(": ");
    text.append(message).append(")");
  }
  return text;
}

std::ostream& operator<<(std::ostream& out, const Error& error) {
  return out << to_string(error);
}

Error last_os_error() noexcept {
  return {errno_to_errc(errno), errno};
}

}  // namespace vmstore
