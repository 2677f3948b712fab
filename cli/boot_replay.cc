// SPDX-License-Identifier: Apache-2.0
#include "cli/boot_replay.h"

#include <libnbd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <latch>
#include <memory>
#include <optional>
#include <thread>

#include "base/random.h"
#include "cli/interrupt.h"

namespace vmstore::cli {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPollMax{100};  // how long an interrupt may go unnoticed

struct CloseNbd {
  void operator()(nbd_handle* handle) const noexcept { nbd_close(handle); }
};
using Handle = std::unique_ptr<nbd_handle, CloseNbd>;

Failure nbd_failure(ExitCode code, const std::string& object) {
  const char* text = nbd_get_error();
  std::string_view what = text == nullptr ? "failed" : text;
  if (const auto colon = what.find(": "); colon != std::string_view::npos) {
    what.remove_prefix(colon + 2);  // the name of libnbd's function
  }
  return Failure::make(code, object, std::string(what));
}

class Replay {
 public:
  Replay(const ReplayPlan& plan, bool paced, const ReplayTarget& target, std::uint64_t seed)
      : plan_(plan), name_(target.name), order_(plan, paced), slots_(plan.needs.size()) {
    const std::uint64_t bytes = plan.trace->request_bytes_max;
    sink_.resize(bytes);
    noise_.resize(bytes);
    Random random(seed);
    for (std::byte& byte : noise_) byte = static_cast<std::byte>(random.u64());
    boot_.requests.reserve(plan.needs.size());
  }

  Answer<void> connect(const std::string& uri) {
    handle_.reset(nbd_create());
    if (!handle_) return nbd_failure(ExitCode::failed, name_);
    if (nbd_connect_uri(handle_.get(), uri.c_str()) != 0) {
      return nbd_failure(ExitCode::unreachable, name_);
    }
    const std::int64_t size = nbd_get_size(handle_.get());
    if (size < 0 || static_cast<std::uint64_t>(size) < plan_.trace->size_bytes) {
      return too_small_for(*plan_.trace, name_);
    }
    can_zero_ = nbd_can_zero(handle_.get()) == 1;
    can_trim_ = nbd_can_trim(handle_.get()) == 1;
    can_flush_ = nbd_can_flush(handle_.get()) == 1;
    can_fua_ = nbd_can_fua(handle_.get()) == 1;
    return {};
  }

  /// THREADS: its own; the handle is nobody else's meanwhile.
  void run(steady_clock::time_point start) {
    start_ = start;
    const Answer<void> done = run_all();
    if (!done) failure_ = done.error();
    boot_.took = elapsed();
  }

  /// The result; only after run() returned.
  Answer<ReplayedBoot> finish() {
    if (!failure_) nbd_shutdown(handle_.get(), 0);
    handle_.reset();
    if (failure_) return *failure_;
    return std::move(boot_);
  }

 private:
  struct Slot {
    Replay* replay = nullptr;
    nanoseconds sent{0};
  };

  [[nodiscard]] nanoseconds elapsed() const { return steady_clock::now() - start_; }

  Answer<void> run_all() {
    while (!order_.is_over()) {
      if (interrupted()) return interruption();
      milliseconds wait = kPollMax;
      while (const std::optional<ReplayOrder::Due> due = order_.next()) {
        const nanoseconds now = elapsed();
        if (due->not_before > now) {
          wait = std::min(wait, std::chrono::ceil<milliseconds>(due->not_before - now));
          break;
        }
        VMS_CHECK(send(due->index));
      }
      if (order_.is_over()) break;  // the last ones were skipped
      if (nbd_poll(handle_.get(), static_cast<int>(wait.count())) < 0) {
        return nbd_failure(ExitCode::unreachable, name_);
      }
      if (failure_) return *failure_;
    }
    return {};
  }

  Answer<void> send(std::size_t index) {
    const TraceRequest& request = plan_.trace->requests[index];
    order_.sent();
    slots_[index] = {this, elapsed()};
    const nbd_completion_callback callback{on_answer, &slots_[index], nullptr};
    const std::int64_t cookie = issue(request, callback);
    if (cookie < 0) return nbd_failure(ExitCode::unreachable, name_);
    if (cookie == 0) {
      ++boot_.skipped;
      order_.answered(index, elapsed());
    }
    return {};
  }

  /// libnbd's number of the request, 0 when it was skipped, -1 when it failed.
  std::int64_t issue(const TraceRequest& request, nbd_completion_callback callback) {
    nbd_handle* const nbd = handle_.get();
    const std::uint32_t flags = request.fua && can_fua_ ? LIBNBD_CMD_FLAG_FUA : 0;
    const std::size_t bytes = request.bytes;
    switch (request.op) {
      case TraceOp::read:
        boot_.read_bytes += bytes;
        // Answers come one after another in this thread: one buffer takes them all.
        return nbd_aio_pread(nbd, sink_.data(), bytes, request.offset, callback, 0);
      case TraceOp::write:
        boot_.written_bytes += bytes;
        return nbd_aio_pwrite(nbd, noise_.data(), bytes, request.offset, callback, flags);
      case TraceOp::zero:
        if (!can_zero_) return 0;
        return nbd_aio_zero(nbd, bytes, request.offset, callback, flags);
      case TraceOp::trim:
        if (!can_trim_) return 0;
        return nbd_aio_trim(nbd, bytes, request.offset, callback, flags);
      case TraceOp::flush:
        if (!can_flush_) return 0;
        return nbd_aio_flush(nbd, callback, 0);
    }
    return 0;
  }

  static int on_answer(void* user, int* error) {
    const auto* slot = static_cast<const Slot*>(user);
    slot->replay->on_answered(*slot, *error);
    return 1;
  }

  void on_answered(const Slot& slot, int error) {
    const auto index = static_cast<std::size_t>(&slot - slots_.data());
    const TraceRequest& request = plan_.trace->requests[index];
    if (error != 0) {
      if (!failure_) {
        failure_ =
            Failure::make(ExitCode::failed,
                          name_,
                          "request " + std::to_string(index + 1) + " of the trace, at byte " +
                              std::to_string(request.offset) + ": " + std::strerror(error));
      }
      return;
    }
    const nanoseconds now = elapsed();
    boot_.requests.push_back({request.op, now - slot.sent});
    order_.answered(index, now);
  }

  const ReplayPlan& plan_;
  std::string name_;
  ReplayOrder order_;
  Handle handle_;
  bool can_zero_ = false;
  bool can_trim_ = false;
  bool can_flush_ = false;
  bool can_fua_ = false;
  std::vector<Slot> slots_;  // by request; libnbd points into it
  std::vector<std::byte> sink_;
  std::vector<std::byte> noise_;
  steady_clock::time_point start_;
  std::optional<Failure> failure_;
  ReplayedBoot boot_;
};

}  // namespace

Failure too_small_for(const BootTrace& trace, const std::string& name) {
  return Failure::make(ExitCode::integrity,
                       name,
                       "is smaller than the disk of the trace, which has " +
                           std::to_string(trace.size_bytes) + " bytes");
}

Answer<std::vector<ReplayedBoot>> replay_boots(const BootTrace& trace,
                                               bool paced,
                                               const std::vector<ReplayTarget>& targets,
                                               const ReplayHooks& hooks) {
  const ReplayPlan plan(trace);
  std::vector<std::unique_ptr<Replay>> replays;
  for (const ReplayTarget& target : targets) {
    replays.push_back(std::make_unique<Replay>(plan, paced, target, replays.size()));
    VMS_CHECK(replays.back()->connect(target.uri));
    if (interrupted()) return interruption();
  }
  if (hooks.before) hooks.before();
  std::latch all_there(static_cast<std::ptrdiff_t>(replays.size()) + 1);
  std::vector<std::thread> threads;
  steady_clock::time_point start;
  for (const std::unique_ptr<Replay>& replay : replays) {
    threads.emplace_back([&all_there, &start, one = replay.get()] {
      all_there.arrive_and_wait();
      one->run(start);
    });
  }
  start = steady_clock::now();
  all_there.arrive_and_wait();
  for (std::thread& thread : threads) thread.join();
  if (hooks.after) hooks.after();
  std::vector<ReplayedBoot> boots;
  for (const std::unique_ptr<Replay>& replay : replays) {
    VMS_TRY(ReplayedBoot boot, replay->finish());
    boots.push_back(std::move(boot));
  }
  return boots;
}

}  // namespace vmstore::cli
