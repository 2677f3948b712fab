// SPDX-License-Identifier: Apache-2.0
// Failure: why a command ends, as people and programs are told: what failed, on which object, and
// what to do next. Answer<T> is the value or the Failure.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace vmstore::cli {

/// Exit codes are part of the interface: scripts and drivers branch on them.
enum class ExitCode {
  ok = 0,
  failed = 1,  // also: what was compared differs
  usage = 2,   // usage or configuration
  not_found = 3,
  exists = 4,
  busy = 5,  // busy, or owned by somebody else
  unreachable = 6,
  no_space = 7,
  integrity = 8,
  partly_failed = 9,
  interrupted = 130,
};

struct Failure {
  ExitCode exit_code = ExitCode::failed;
  std::string code;    // stable word for programs, an Errc's name where there is one
  std::string object;  // the disk, file or socket it is about; may be empty
  std::string what;    // one sentence without a full stop
  std::string hint;    // what to do next; may be empty

  /// The Errc as a Failure, with the errno's text where there is one.
  [[nodiscard]] static Failure from(const Error& error, std::string object, std::string hint = {});
  [[nodiscard]] static Failure usage(std::string what, std::string hint = {});
  [[nodiscard]] static Failure make(ExitCode exit_code,
                                    std::string object,
                                    std::string what,
                                    std::string hint = {});
};

/// The exit code for an error of the lower layers.
[[nodiscard]] ExitCode exit_code_of(Errc code) noexcept;
/// "usage", "busy", …: the word for a Failure that has no Errc.
[[nodiscard]] std::string_view exit_code_name(ExitCode code) noexcept;

[[noreturn]] void throw_exception_from_error(const Failure& failure,
                                             const boost::source_location& at);

template <class T>
class [[nodiscard]] Answer : public boost::system::result<T, Failure> {
 public:
  using boost::system::result<T, Failure>::result;
};

template <>
class [[nodiscard]] Answer<void> : public boost::system::result<void, Failure> {
 public:
  using boost::system::result<void, Failure>::result;
  Answer() = default;
};

/// A Result of the lower layers, with the object it was about.
template <class T>
[[nodiscard]] Answer<T> about(Result<T>&& result,
                              std::string_view object,
                              std::string_view hint = {}) {
  if (!result) return Failure::from(result.error(), std::string(object), std::string(hint));
  if constexpr (std::is_void_v<T>) {
    return {};
  } else {
    return std::move(*result);
  }
}

}  // namespace vmstore::cli
