// SPDX-License-Identifier: Apache-2.0
// The error codes of VMStore: one enum for every layer, because the codes travel on the wire.
//
// Invariants: numbers are append-only and never reused; `unknown` ("I cannot tell") is never
// treated as `not_found` (I9). errc_test walks every enumerator.
#pragma once

#include <cstdint>
#include <ostream>
#include <span>
#include <string>
#include <string_view>

namespace vmstore {

enum class Errc : std::int32_t {
  ok = 0,
  not_found = 1,          // it certainly does not exist
  unknown = 2,            // cannot tell: damage, no answer, lost answer; never treat as not_found
  exists = 3,             // the thing to be created is there already
  stale_token = 4,        // fenced: a newer owner exists
  sealed = 5,             // the key takes no more appends
  wrong_offset = 6,       // append not exactly at the length of the key
  corrupt = 7,            // a checksum does not match, or a decoded field is impossible
  punched = 8,            // the block was freed; look it up again before calling it damage
  no_space = 9,           // device, quota or credit is exhausted
  busy = 10,              // owned by somebody, or a bounded queue is full
  timed_out = 11,         // no answer in time; the outcome is not known
  closing = 12,           // this object is being shut down
  disconnected = 13,      // the peer closed; the outcome of requests under way is not known
  bad_frame = 14,         // the peer broke the framing or a limit; the connection ends
  unsupported = 15,       // known to the format, not built in this version
  newer_format = 16,      // written by a newer version; never opened, never changed
  invalid_argument = 17,  // a name, size, flag or range that can never be right
  read_only = 18,         // snapshots and read-only exports refuse writes
  permission = 19,        // the peer may not do this
  conflict = 20,          // a compare in a metadata transaction did not hold
  compacted = 21,         // the metadata revision asked for is gone
  unavailable = 22,       // exists, but nobody who could serve it answers
  io_error = 23,          // the device or file system failed; see os_errno
  foreign_store = 24,     // the folder belongs to something else or to another store
  interrupted = 25,       // stopped by the user
  lease_lost = 26,        // the session's lease ended
  quarantined = 27,       // held back after a failed checksum
  not_owner = 28,         // this session does not hold the disk's token
};

/// Every enumerator, in numeric order; used by the test and by the decoder of wire codes.
[[nodiscard]] std::span<const Errc> all_errcs() noexcept;

/// Stable snake_case name, as printed in logs and JSON.
[[nodiscard]] std::string_view errc_name(Errc code) noexcept;

/// One English sentence without a full stop, for people.
[[nodiscard]] std::string_view errc_text(Errc code) noexcept;

/// The errno a guest or a FUSE user sees.
[[nodiscard]] int errc_to_errno(Errc code) noexcept;

/// The nearest code for an errno of the operating system; `io_error` when there is none.
[[nodiscard]] Errc errno_to_errc(int os_errno) noexcept;

/// A code from the wire; numbers of a newer peer become `unknown`.
[[nodiscard]] Errc errc_from_wire(std::int32_t number) noexcept;

/// What a failing function returns: the code, and the errno where the system gave one (else 0).
struct Error {
  Errc code = Errc::unknown;
  int os_errno = 0;

  constexpr Error() = default;
  constexpr Error(Errc c, int e = 0) noexcept : code(c), os_errno(e) {}  // NOLINT: implicit
  friend constexpr bool operator==(const Error& a, const Error& b) noexcept {
    return a.code == b.code;
  }
  friend constexpr bool operator==(const Error& a, Errc b) noexcept { return a.code == b; }
  friend std::ostream& operator<<(std::ostream& out, const Error& error);
};

/// "no_space: no space left (errno 28: No space left on device)".
[[nodiscard]] std::string to_string(const Error& error);

/// The error for the errno that the last system call left.
[[nodiscard]] Error last_os_error() noexcept;

}  // namespace vmstore
