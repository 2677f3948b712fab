// SPDX-License-Identifier: Apache-2.0
#include "cli/nbd_probe.h"

#include <libnbd.h>
#include <poll.h>

#include <memory>
#include <optional>
#include <string_view>

#include "cli/interrupt.h"

namespace vmstore::cli {
namespace {

constexpr int kPollMs = 100;
constexpr int kPauseMs = 50;

struct CloseNbd {
  void operator()(nbd_handle* handle) const noexcept { nbd_close(handle); }
};
using Handle = std::unique_ptr<nbd_handle, CloseNbd>;

Failure nbd_failure(const std::string& object) {
  const char* text = nbd_get_error();
  std::string_view what = text == nullptr ? "failed" : text;
  if (const auto colon = what.find(": "); colon != std::string_view::npos) {
    what.remove_prefix(colon + 2);  // the name of libnbd's function
  }
  return Failure::make(ExitCode::unreachable, object, std::string(what));
}

bool is_over(nbd_handle* handle) {
  return nbd_aio_is_dead(handle) != 0 || nbd_aio_is_closed(handle) != 0;
}

/// Runs the connection until `done`; false when it broke or time is over.
template <class Done>
Answer<bool> run_until(nbd_handle* handle,
                       std::chrono::steady_clock::time_point deadline,
                       const std::function<Answer<void>()>& give_up,
                       Done done) {
  while (!done()) {
    if (is_over(handle) || std::chrono::steady_clock::now() >= deadline) return false;
    VMS_CHECK(give_up());
    if (nbd_poll(handle, kPollMs) < 0) return false;
  }
  return true;
}

struct Asked {
  bool answered = false;
  int error = 0;
};

int on_answer(void* user, int* error) {
  auto* asked = static_cast<Asked*>(user);
  asked->answered = true;
  asked->error = *error;
  return 1;
}

/// One try; empty when the server broke off and it may be tried again.
Answer<std::optional<ExportFacts>> ask_once(const std::string& socket,
                                            const std::string& name,
                                            std::chrono::steady_clock::time_point deadline,
                                            const std::function<Answer<void>()>& give_up) {
  const Handle handle(nbd_create());
  if (!handle) return nbd_failure(socket);
  if (nbd_set_opt_mode(handle.get(), true) != 0 ||
      nbd_set_export_name(handle.get(), name.c_str()) != 0) {
    return nbd_failure(socket);
  }
  if (nbd_aio_connect_unix(handle.get(), socket.c_str()) != 0) return std::nullopt;
  VMS_TRY(const bool is_negotiating, run_until(handle.get(), deadline, give_up, [&] {
            return nbd_aio_is_negotiating(handle.get()) != 0;
          }));
  if (!is_negotiating) return std::nullopt;
  Asked asked;
  const nbd_completion_callback callback{on_answer, &asked, nullptr};
  if (nbd_aio_opt_info(handle.get(), callback) != 0) return std::nullopt;
  VMS_TRY(const bool has_answer,
          run_until(handle.get(), deadline, give_up, [&] { return asked.answered; }));
  if (!has_answer || is_over(handle.get())) return std::nullopt;
  if (asked.error != 0) {
    return Failure::make(ExitCode::failed,
                         name,
                         "the export refuses to open",
                         "its reason is in what `vmstore up` printed");
  }
  const std::int64_t size = nbd_get_size(handle.get());
  if (size < 0) return nbd_failure(name);
  const bool read_only = nbd_is_read_only(handle.get()) == 1;
  if (nbd_aio_opt_abort(handle.get()) == 0) {
    VMS_TRY(const bool ended,
            run_until(handle.get(), deadline, give_up, [&] { return is_over(handle.get()); }));
    static_cast<void>(ended);
  }
  return ExportFacts{static_cast<std::uint64_t>(size), read_only};
}

}  // namespace

Answer<ExportFacts> probe_export(const std::string& socket,
                                 const std::string& name,
                                 std::chrono::steady_clock::time_point deadline,
                                 const std::function<Answer<void>()>& give_up) {
  while (true) {
    VMS_TRY(const std::optional<ExportFacts> facts, ask_once(socket, name, deadline, give_up));
    if (facts) return *facts;
    if (interrupted()) return interruption();
    if (std::chrono::steady_clock::now() >= deadline) {
      return Failure::make(ExitCode::unreachable, socket, "the export does not answer");
    }
    VMS_CHECK(give_up());
    poll(nullptr, 0, kPauseMs);
  }
}

}  // namespace vmstore::cli
