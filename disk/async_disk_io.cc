// SPDX-License-Identifier: Apache-2.0
// AsyncDisk: reads, extents, and what other sessions ask the holder of a disk (DESIGN 6: C3, R7).
// Steps of docs/protocol/handover.pml: client, hand_over.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/units.h"
#include "disk/async_disk.h"
#include "disk/snapshot_disk.h"
#include "wire/messages.h"
#include "wire/vmstore.pb.h"

namespace vmstore::disk {
namespace {

constexpr std::size_t kExtentsPerCall = 4096;
constexpr std::uint64_t kRemoteReadBytes = limits::kPayloadBytesMax;
constexpr Duration kHolderAnswer = std::chrono::seconds(15);
constexpr Duration kAskAgain = std::chrono::milliseconds(100);
/// How long reads go through the holder before it is asked again whether there is one, and whether
/// there is the disk.
constexpr Duration kHolderKept = std::chrono::seconds(1);

}  // namespace

bool AsyncDisk::try_read(std::uint64_t offset, MutableBytes into) {
  if (mode_.load(std::memory_order_acquire) != Mode::owner || !has_lease()) return false;
  return reader_.try_read(offset, into);
}

Task<Result<void>> AsyncDisk::read(std::uint64_t offset, MutableBytes into) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  for (;;) {
    if (failure_) co_return *failure_;
    if (mode_.load() == Mode::owner && !has_lease()) {
      VMS_CO_CHECK(co_await renew_lease());
      continue;
    }
    if (mode_.load() == Mode::owner) {
      const auto outcome = co_await reader_.read(offset, into);
      const bool lost = !outcome && net::is_connection_trouble(outcome.error());
      if (!lost) co_return outcome;
      VMS_CO_CHECK(co_await wait_for_node());
      continue;
    }
    const bool held_by_another = session_.scheduler().now() < held_by_another_until_;
    const auto acquired = held_by_another ? Result<void>(Errc::busy) : co_await acquire();
    if (acquired) continue;
    const Error error = acquired.error();
    if (net::is_connection_trouble(error)) {
      VMS_CO_CHECK(co_await wait_for_node());
    } else if (error == Errc::busy) {
      // The node passes each read on to whoever holds the disk at that moment, so what is kept here
      // spares questions and never gives older bytes.
      if (!held_by_another) held_by_another_until_ = session_.scheduler().now() + kHolderKept;
      const auto remote = co_await read_through_holder(offset, into);
      if (remote) co_return success();
      held_by_another_until_ = TimePoint();
      const bool gone = remote.error() == Errc::not_owner || remote.error() == Errc::closing ||
                        net::is_connection_trouble(remote.error());
      if (!gone) co_return remote.error();
      if (stopping_.is_set()) co_return Errc::closing;
      co_await sleep_for(session_.scheduler(), kAskAgain);
    } else {
      co_return error;
    }
  }
}

Task<Result<void>> AsyncDisk::read_through_holder(std::uint64_t offset, MutableBytes into) {
  while (!into.empty()) {
    const std::size_t count = std::min<std::size_t>(into.size(), kRemoteReadBytes);
    pb::DiskCallRequest request;
    wire::put_id(*request.mutable_disk(), id_);
    request.mutable_read()->set_offset(offset);
    request.mutable_read()->set_bytes(static_cast<std::uint32_t>(count));
    const TimePoint deadline = session_.scheduler().now() + kHolderAnswer;
    VMS_CO_TRY(const auto answer, co_await session_.node().call_holder(request, deadline));
    if (answer.payload.size() != count) co_return Errc::bad_frame;
    const ByteSpan bytes = answer.payload.bytes();
    std::copy(bytes.begin(), bytes.end(), into.begin());
    into = into.subspan(count);
    offset += count;
  }
  co_return success();
}

Task<Result<std::vector<DiskExtent>>> AsyncDisk::extents(std::uint64_t offset,
                                                         std::uint64_t bytes,
                                                         std::size_t count_max) {
  VMS_CO_TRY(const auto pass, gate_.enter());
  std::vector<DiskExtent> found;
  for (;;) {
    if (failure_) co_return *failure_;
    if (mode_.load() != Mode::owner) {
      const auto acquired = co_await acquire();
      if (acquired) continue;
      if (net::is_connection_trouble(acquired.error())) {
        VMS_CO_CHECK(co_await wait_for_node());
        continue;
      }
      if (acquired.error() != Errc::busy) co_return acquired.error();
      // Another session holds it: everything may be data. Never a guessed hole (I10).
      found.push_back({offset, bytes, false});
      co_return found;
    }
    if (!has_lease()) {
      VMS_CO_CHECK(co_await renew_lease());
      continue;
    }
    const Lbn first(offset / kBlockBytes);
    const std::uint64_t blocks = (offset + bytes + kBlockBytes - 1) / kBlockBytes - first.value;
    auto mapped = co_await reader_.map(first, blocks, count_max);
    if (!mapped && net::is_connection_trouble(mapped.error())) {
      VMS_CO_CHECK(co_await wait_for_node());
      continue;
    }
    if (!mapped) co_return mapped.error();
    co_return clip_extents(*mapped, offset, bytes);
  }
}

// ---- the other sessions ----

Task<Result<void>> AsyncDisk::ask_for_hand_over() {
  TimePoint deadline = session_.scheduler().now() + Duration(limits::kHandOverWait);
  for (;;) {
    // Another request of this disk got the token meanwhile: the holder is this very session, and it
    // would refuse for ever, because of the request that asks.
    if (mode_.load() == Mode::owner) co_return success();
    pb::DiskCallRequest request;
    wire::put_id(*request.mutable_disk(), id_);
    request.mutable_hand_over()->set_force(false);
    // A holder that is silent for so long has no lease any more: the next question finds that.
    const TimePoint lease_end = session_.scheduler().now() + Duration(limits::kLeaseTime);
    const TimePoint answer_by = std::min(deadline, lease_end);
    const auto answer = co_await session_.node().call_holder(request, answer_by);
    if (answer) co_return success();
    if (answer.error() == Errc::not_owner) {
      // Nobody to ask, but its process may live and keep the batch file: never a busy loop.
      co_await sleep_for(session_.scheduler(), kAskAgain);
      co_return stopping_.is_set() ? Result<void>(Errc::closing) : success();
    }
    if (answer.error() != Errc::busy && !net::is_connection_trouble(answer.error())) {
      co_return answer.error();
    }
    if (stopping_.is_set()) co_return Errc::closing;
    // While the node is away, or waits for holders after its start, nobody has refused anything.
    // An answer that came too late says nothing about the node: it never gives more time.
    const TimePoint now = session_.scheduler().now();
    if (now >= deadline) co_return Errc::busy;
    const bool too_late = answer.error() == Errc::timed_out && session_.node().is_connected();
    if (net::is_connection_trouble(answer.error()) && !too_late) {
      deadline = now + Duration(limits::kHandOverWait);
    }
    co_await sleep_for(session_.scheduler(), kAskAgain);
    if (session_.scheduler().now() >= deadline) co_return Errc::busy;
  }
}

Task<Result<void>> AsyncDisk::hand_over(bool force) {
  const auto quiet_for = session_.scheduler().now().time_since_epoch().count() - last_request_ns_;
  const bool quiet =
      requests_open_.load() == 0 && quiet_for >= Duration(limits::kHandOverQuiet).count();
  if (!force && connected_.load() && !quiet) co_return Errc::busy;
  const auto lock = co_await token_mutex_.lock();
  if (mode_.load() != Mode::owner) co_return success();
  if (!force && connected_.load() && requests_open_.load() != 0) co_return Errc::busy;
  const bool has_guest = connected_.load();
  const auto released = co_await release_locked();
  const bool lost = !released && released.error() == Errc::stale_token;
  if (lost && !my_writer_epoch_ && !(force && has_guest)) {
    const auto maintenance = co_await maintenance_mutex_.lock();
    // Nothing was written under it, and it is somebody else's already.
    if (mode_.load() == Mode::owner) co_await lose_token();
    co_return success();
  }
  if (lost) become_failed(released.error());
  // The disk changes under a guest that did not ask for it.
  if (released && force && has_guest) become_failed(Errc::stale_token);
  co_return released;
}

Task<Result<std::vector<DiskExtent>>> AsyncDisk::serve_extents(std::uint64_t offset,
                                                               std::uint64_t bytes,
                                                               std::size_t count_max) {
  if (offset > size_bytes() || bytes > size_bytes() - offset) co_return Errc::invalid_argument;
  co_return co_await extents(offset, bytes, std::min(count_max, kExtentsPerCall));
}

Task<Result<net::DiskCallAnswer>> AsyncDisk::serve(std::unique_ptr<pb::DiskCallRequest> request) {
  const auto self = shared_from_this();
  const auto pass = gate_.enter();
  if (!pass) co_return Errc::not_owner;  // being given back, and nothing was done: ask again
  net::DiskCallAnswer answer;
  answer.reply = std::make_unique<pb::DiskCallReply>();
  answer.reply->set_size_bytes(size_bytes());
  answer.reply->set_has_connection(connected_.load());
  switch (request->what_case()) {
    case pb::DiskCallRequest::kRead: {
      const std::uint64_t offset = request->read().offset();
      const std::uint64_t bytes = request->read().bytes();
      if (bytes == 0 || bytes > kRemoteReadBytes) co_return Errc::invalid_argument;
      if (offset > size_bytes() || bytes > size_bytes() - offset) co_return Errc::invalid_argument;
      answer.payload = wire::Payload::allocate(bytes);
      VMS_CO_CHECK(co_await read(offset, answer.payload.writable()));
      break;
    }
    case pb::DiskCallRequest::kSnapshot: {
      std::string name = request->snapshot().name();
      Result<SnapshotTiming> timing(Errc::unknown);
      if (request->snapshot().written_out()) {
        timing = co_await write_out_snapshot(std::move(name));
      } else {
        timing = co_await snapshot(std::move(name));
      }
      if (!timing) co_return timing.error();
      answer.reply->set_stall_ns(static_cast<std::uint64_t>(timing->stall.count()));
      break;
    }
    case pb::DiskCallRequest::kHandOver:
      VMS_CO_CHECK(co_await hand_over(request->hand_over().force()));
      break;
    case pb::DiskCallRequest::kFlush:
      VMS_CO_CHECK(co_await flush());
      break;
    case pb::DiskCallRequest::kResize: {
      // A disk that somebody uses only grows; whoever shrinks it takes the token.
      const std::uint64_t bytes = request->resize().bytes();
      if (!is_valid_disk_size(bytes) || bytes < size_bytes()) co_return Errc::invalid_argument;
      VMS_CO_CHECK(co_await resize(bytes));
      break;
    }
    case pb::DiskCallRequest::kInfo: {
      const Mapping::SharedLock lock(mapping_.mutex());
      answer.reply->set_overlay_blocks(mapping_.overlay().run_count());
      break;
    }
    case pb::DiskCallRequest::kExtents: {
      const auto& call = request->extents();
      VMS_CO_TRY(const auto found, co_await serve_extents(call.offset(), call.bytes(), call.max()));
      for (const DiskExtent& extent : found) {
        auto* const added = answer.reply->add_extents();
        added->set_bytes(extent.bytes);
        added->set_zero(extent.zero);
      }
      break;
    }
    case pb::DiskCallRequest::kProve:
      // Whoever asks for nothing makes us ask the node once more than needed.
      lease_.drop();
      break;
    case pb::DiskCallRequest::WHAT_NOT_SET:
      co_return Errc::unsupported;
  }
  co_return std::move(answer);
}

}  // namespace vmstore::disk
