// SPDX-License-Identifier: Apache-2.0
#include "cli/failure.h"

#include <cstdlib>
#include <iostream>
#include <system_error>

namespace vmstore::cli {

ExitCode exit_code_of(Errc code) noexcept {
  switch (code) {
    case Errc::ok:
      return ExitCode::ok;
    case Errc::not_found:
      return ExitCode::not_found;
    case Errc::exists:
      return ExitCode::exists;
    case Errc::busy:
    case Errc::stale_token:
    case Errc::not_owner:
    case Errc::lease_lost:
    case Errc::conflict:
      return ExitCode::busy;
    case Errc::unknown:
    case Errc::timed_out:
    case Errc::disconnected:
    case Errc::unavailable:
    case Errc::closing:
      return ExitCode::unreachable;
    case Errc::no_space:
      return ExitCode::no_space;
    case Errc::corrupt:
    case Errc::quarantined:
    case Errc::punched:
      return ExitCode::integrity;
    case Errc::invalid_argument:
      return ExitCode::usage;
    case Errc::interrupted:
      return ExitCode::interrupted;
    default:
      return ExitCode::failed;
  }
}

std::string_view exit_code_name(ExitCode code) noexcept {
  switch (code) {
    case ExitCode::ok:
      return "ok";
    case ExitCode::failed:
      return "failed";
    case ExitCode::usage:
      return "usage";
    case ExitCode::not_found:
      return "not_found";
    case ExitCode::exists:
      return "exists";
    case ExitCode::busy:
      return "busy";
    case ExitCode::unreachable:
      return "unreachable";
    case ExitCode::no_space:
      return "no_space";
    case ExitCode::integrity:
      return "integrity";
    case ExitCode::partly_failed:
      return "partly_failed";
    case ExitCode::interrupted:
      return "interrupted";
  }
  return "failed";
}

Failure Failure::from(const Error& error, std::string object, std::string hint) {
  std::string what(errc_text(error.code));
  if (error.os_errno != 0) {
    what += ": " + std::generic_category().message(error.os_errno);
  }
  return {exit_code_of(error.code),
          std::string(errc_name(error.code)),
          std::move(object),
          std::move(what),
          std::move(hint)};
}

Failure Failure::usage(std::string what, std::string hint) {
  return make(ExitCode::usage, {}, std::move(what), std::move(hint));
}

Failure Failure::make(ExitCode exit_code, std::string object, std::string what, std::string hint) {
  return {exit_code,
          std::string(exit_code_name(exit_code)),
          std::move(object),
          std::move(what),
          std::move(hint)};
}

void throw_exception_from_error(const Failure& failure, const boost::source_location& at) {
  std::cerr << "vmstore: a failure was used as a value at " << at.file_name() << ":" << at.line()
            << ": " << failure.what << "\n";
  std::abort();
}

}  // namespace vmstore::cli
