// SPDX-License-Identifier: Apache-2.0
// Result<T>: the value or the Error. Nodiscard, so that a dropped error is a compiler message.
//
// The VMS_TRY family propagates errors. They are statements, never part of a co_await expression
// with braces (g++ 12 double-frees such temporaries, see docs/HACKING.md).
#pragma once

#include <boost/system/result.hpp>
#include <string_view>
#include <utility>

#include "base/errc.h"

namespace vmstore {

[[noreturn]] void throw_exception_from_error(const Error& error, const boost::source_location& at);

template <class T>
class [[nodiscard]] Result : public boost::system::result<T, Error> {
 public:
  using boost::system::result<T, Error>::result;
  Result(Errc code) : boost::system::result<T, Error>(Error(code)) {}  // NOLINT: implicit
};

template <>
class [[nodiscard]] Result<void> : public boost::system::result<void, Error> {
 public:
  using boost::system::result<void, Error>::result;
  Result() = default;
  Result(Errc code) : boost::system::result<void, Error>(Error(code)) {}  // NOLINT: implicit
};

/// Success of a function that returns Result<void>.
[[nodiscard]] inline Result<void> success() noexcept {
  return {};
}

/// Says that an error is of no consequence here, and why.
template <class T>
void ignore(const Result<T>& /*result*/, std::string_view /*why*/) noexcept {}

}  // namespace vmstore

#define VMS_CONCAT_INNER(a, b) a##b
#define VMS_CONCAT(a, b) VMS_CONCAT_INNER(a, b)
#define VMS_TRY_IMPL(tmp, ret, decl, ...) \
  auto tmp = __VA_ARGS__;                 \
  if (!tmp) ret tmp.error();              \
  decl = std::move(*tmp)
#define VMS_CHECK_IMPL(tmp, ret, ...) \
  do {                                \
    auto tmp = __VA_ARGS__;           \
    if (!tmp) ret tmp.error();        \
  } while (false)

/// VMS_TRY(auto x, f()): declares x from the value, or returns the error.
#define VMS_TRY(decl, ...) VMS_TRY_IMPL(VMS_CONCAT(try_, __LINE__), return, decl, __VA_ARGS__)
/// The same inside a coroutine.
#define VMS_CO_TRY(decl, ...) VMS_TRY_IMPL(VMS_CONCAT(try_, __LINE__), co_return, decl, __VA_ARGS__)
/// VMS_CHECK(f()): returns the error of a Result whose value is not needed.
#define VMS_CHECK(...) VMS_CHECK_IMPL(VMS_CONCAT(chk_, __LINE__), return, __VA_ARGS__)
/// The same inside a coroutine.
#define VMS_CO_CHECK(...) VMS_CHECK_IMPL(VMS_CONCAT(chk_, __LINE__), co_return, __VA_ARGS__)
